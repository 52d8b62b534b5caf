"""What the Triton kernels of more than one op use."""

import contextlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


def launch(kernel: Any, programs: int, like: Tensor, *arguments: Any, **options: Any) -> None:
    """Launch ``kernel`` with a grid of ``programs`` on the device of ``like``.

    Triton launches on the current device, which need not be the one that holds the tensors. The
    grid has one axis, because the others end at 65535. Fused multiply-adds are asked for, because
    Triton's own default changes with its version.
    """
    on_cuda = like.device.type == "cuda"
    with torch.cuda.device(like.device) if on_cuda else contextlib.nullcontext():
        kernel[(programs,)](*arguments, enable_fp_fusion=True, **options)


@triton.jit
def sigmoid(x):
    """Return 1 / (1 + exp(-x)) of a float32, without overflow."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def silu(x):
    """Return x * sigmoid(x) of a float32."""
    return x * sigmoid(x)


@triton.jit
def silu_gradient(x):
    """Return the derivative of silu."""
    gate = sigmoid(x)
    return gate * (1.0 + x * (1.0 - gate))


@triton.jit
def softplus(x):
    """Return log(1 + exp(x)) of a float32, to a few ulp for every x.

    log(1 + e) = 2 atanh(e / (2 + e)) as a series, because ``log(1.0 + e)`` loses small e; e <= 1,
    so the first term left out is below 2e-8.
    """
    e = tl.exp(-tl.abs(x))
    ratio = e / (2.0 + e)
    square = ratio * ratio
    series = 1.0 / 11 + square * (1.0 / 13)
    series = 1.0 / 9 + square * series
    series = 1.0 / 7 + square * series
    series = 1.0 / 5 + square * series
    series = 1.0 / 3 + square * series
    return tl.maximum(x, 0.0) + 2.0 * ratio * (1.0 + square * series)
