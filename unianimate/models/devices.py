"""The device and the dtype a model runs in if nothing else is asked."""

import ctypes
import logging
import platform

import torch

_log = logging.getLogger(__name__)
# parameters of mallopt(3), from malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def default_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of the network on a device, and log why.

    float16 on a GPU, as in the official system. On a CPU bfloat16 where it has instructions for it
    (avx512_bf16 or amx), which run convolutions two to four times as fast, else float32.
    """
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu" and _cpu_has_bfloat16():
        _log.info("the network runs in bfloat16: this CPU has instructions for it")
        return torch.bfloat16
    _log.info("the network runs in float32: this %s has no fast half precision", device.type)
    return torch.float32


def keep_freed_memory() -> None:
    """Let this process reuse the memory of freed tensors instead of giving it back to Linux.

    glibc maps tensors of 32 MiB and more afresh, and Linux clears every page of them at its first
    use, at every training step again. The process then keeps the most memory it ever used, which
    is why a command calls this and the library does not. Without glibc it does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _cpu_has_bfloat16() -> bool:
    # torch tells it in private functions only, which not every build has
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, test, bool)() for test in tests)
