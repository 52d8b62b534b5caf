"""This machine: what it is called, what runs on it, and the rates that bound every op."""

import datetime
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import conv2d

from benchmarks.roofline import Limits
from unianimate.models.devices import default_dtype
from unianimate.profiling import time_call

_PACKAGES = ("torch", "triton", "diffusers", "mamba-ssm", "causal-conv1d", "xformers")
# working sets of the copies, in bytes; and numbers a matrix is wide
_CPU_SIZES, _GPU_SIZES = (2**21, 2**24, 2**28), (2**24, 2**26, 2**31)
_CPU_WIDTH, _GPU_WIDTH = 1536, 8192
# A CPU has no instruction for an exponential: to float32's accuracy it takes ten multiply-adds or
# the like (range, polynomial, scale). torch.exp is slower than that and bounds nothing.
_EXP_FLOPS = 20
# exponentials a number on a GPU
_EXP_CHAIN = 256


def describe(device: torch.device) -> dict[str, Any]:
    """Return the name of the device, versions, commit and date, as the report shows them."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "device": _name(device),
        "type": device.type,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
    }


def folder_name(machine: dict[str, Any]) -> str:
    """Return a name for the folder of this device's results."""
    words = machine["device"]
    if machine["type"] == "cpu":
        words += f" {machine['threads']} threads {machine['instructions']}"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def measure_limits(device: torch.device, *, smoke: bool = False) -> Limits:
    """Measure copy bandwidth, matmul rates and the exp rate; a few seconds.

    Args:
        device: where.
        smoke: on tiny tensors, for a trial whose figures mean nothing.
    """
    on_gpu = device.type == "cuda"
    sizes, width = (_GPU_SIZES, _GPU_WIDTH) if on_gpu else (_CPU_SIZES, _CPU_WIDTH)
    if smoke:
        sizes, width = (2**16, 2**18), 64
    # a half precision without instructions for it bounds nothing
    dtypes = {torch.float32, torch.bfloat16} if on_gpu else {torch.float32, default_dtype(device)}
    matmul = {
        str(dtype).removeprefix("torch."): _matmul_rate(width, dtype, device)
        for dtype in sorted(dtypes, key=str)
    }
    return Limits(
        copy=tuple((size, _copy_rate(size, device)) for size in sizes),
        matmul=matmul,
        exps=_gpu_exp_rate(device) if on_gpu else matmul["float32"] / _EXP_FLOPS,
    )


def _copy_rate(working_set: int, device: torch.device) -> float:
    source = torch.ones(working_set // 8, device=device)
    target = torch.empty_like(source)
    # the rate is reached by the fastest rounds; interruptions only lower it
    return working_set / time_call(lambda: target.copy_(source), device, budget=0.5).low


def _matmul_rate(width: int, dtype: torch.dtype, device: torch.device) -> float:
    a, b = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
    rate = 2 * width**3 / time_call(lambda: a @ b, device, budget=0.5).low
    if device.type == "cpu":
        # torch's products leave AVX-512 unused on some processors, its convolutions do not
        x = torch.randn(width // 4, 64, 8, 8).to(dtype, memory_format=torch.channels_last)
        weight = torch.randn(64, 64, 3, 3).to(dtype, memory_format=torch.channels_last)
        seconds = time_call(lambda: conv2d(x, weight, padding=1), device, budget=0.5).low
        rate = max(rate, 18 * weight.shape[0] * x.numel() / seconds)
    return rate


def _gpu_exp_rate(device: torch.device) -> float:
    """Measure a kernel that does nothing but exponentials; torch's own is bound by memory."""
    from benchmarks.exp_kernel import exponentiate

    x = torch.rand(2**24, device=device)
    return x.numel() * _EXP_CHAIN / time_call(lambda: exponentiate(x, _EXP_CHAIN), device).low


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", ":!results")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
