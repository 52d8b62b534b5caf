"""What tells a run from all others: entries that are equal exactly when the result must be."""

import hashlib
import importlib.metadata
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unianimate.models import UniAnimate

_LENGTH = 16


def array_digest(array: NDArray[Any]) -> str:
    """Return a digest of an array's shape and content."""
    digest = hashlib.sha256(repr((array.shape, array.dtype.str)).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:_LENGTH]


def model_digest(model: UniAnimate) -> str:
    """Return a digest of a model's configuration and weights, a second for the official model."""
    digest = hashlib.sha256(repr(model.config).encode())
    for name, tensor in model.state_dict().items():
        # an exclusive or of the numbers: fast wherever the weights are
        value = torch.hash_tensor(tensor.detach()).view(torch.int64).item()
        digest.update(f"{name} {tensor.dtype} {value}".encode())
    return digest.hexdigest()[:_LENGTH]


def scheduler_digest(scheduler: Any) -> str:
    """Return a digest of a scheduler's kind and configuration."""
    config = dict(getattr(scheduler, "config", vars(scheduler)))
    # diffusers keeps notes of its own there, in no certain order
    entries = sorted((name, repr(value)) for name, value in config.items() if name[0] != "_")
    return text_digest(repr((type(scheduler).__name__, entries)))


def text_digest(text: str) -> str:
    """Return a digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def environment(model: UniAnimate) -> dict[str, Any]:
    """Return what the bits of a result depend on beside its inputs and settings."""
    device = model.device
    return {
        "version": importlib.metadata.version("unianimate"),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "backend": os.environ.get("UNIANIMATE_BACKEND"),
    }
