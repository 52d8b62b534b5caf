"""What each kind of backend can serve on this machine, and why not."""

import importlib.util
import os

import torch

from ._dispatch import Backend
from ._library import native_off

_CPU = frozenset({torch.float32, torch.bfloat16, torch.float64})
_GPU = frozenset({torch.float32, torch.bfloat16, torch.float16})

REFERENCE = Backend(dict.fromkeys(("cpu", "cuda", "mps", "xpu", "meta"), _CPU | _GPU), {})

_YES = ("1", "true", "on", "yes", "y")

# Triton decides at decoration whether it interprets; the variable is Triton's own
TRITON_INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in _YES


def native_backend(op: str, *, cuda: bool = True) -> Backend:
    """Return the native backend of ``op``: C++ on CPU tensors, CUDA C++, if any, on GPU tensors."""
    off = native_off(f"{op}_forward")
    if cuda:
        return Backend({"cpu": _CPU, "cuda": _GPU}, off)
    return Backend({"cpu": _CPU}, {device: why for device, why in off.items() if device == "cpu"})


def inference_backend(op: str) -> Backend:
    """Return the native backend of an op for inference: C++ on CPU tensors."""
    return Backend({"cpu": _CPU - {torch.float64}}, native_backend(op, cuda=False).off)


def triton_backend() -> Backend:
    """Return the Triton backend of an op: GPU tensors, and CPU tensors under the interpreter."""
    dtypes = {"cuda": _GPU, "cpu": _GPU} if TRITON_INTERPRETED else {"cuda": _GPU}
    if importlib.util.find_spec("triton") is not None:
        return Backend(dtypes, {})
    missing = "triton is not installed: `pip install triton` (a CUDA build of torch brings it)"
    return Backend(dtypes, dict.fromkeys(dtypes, missing))


def peer_backend(module: str, distribution: str) -> Backend:
    """Return the backend of a peer library: GPU tensors, and only when asked for by name."""
    off = {}
    if importlib.util.find_spec(module) is None:
        off["cuda"] = f"{distribution} is not installed: `pip install {distribution}`"
    return Backend({"cuda": _GPU}, off, automatic=False)
