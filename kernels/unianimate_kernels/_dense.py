"""Copies for kernels that read the last axis, or small tensors, densely."""

from torch import Tensor


def dense_last(grad: Tensor) -> Tensor:
    """Copy a gradient whose last axis is strided, such as the expanded one of ``sum()``."""
    return grad if grad.stride(-1) == 1 or grad.shape[-1] == 1 else grad.contiguous()


def contiguous(tensor: Tensor | None) -> Tensor | None:
    """Return a dense copy of a strided parameter or state; small, unlike the activations."""
    return None if tensor is None else tensor.contiguous()
