"""The 3x1x1 convolution in C++ (csrc/temporal_conv), registered with torch.library.

The input gradient is the same convolution with the weights transposed and turned in time; the
weight gradient is an entry of its own.
"""

import ctypes
from typing import Any, ClassVar

from torch import Tensor
from torch.nn.functional import pad

from .._library import Arguments, Array, array, call
from .._registration import operator
from ..selective_scan.reference import accumulator

_PANEL = 32  # UA_TEMPORAL_CONV_PANEL


class _Arguments(Arguments):
    """``ua_temporal_conv`` of csrc/temporal_conv/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "frames", "space", "width_in", "width_out")),
        ("x", Array),
        ("y", Array),
        ("packed", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("grad", ctypes.c_void_p),
    ]


def rows_of(x: Tensor) -> Tensor:
    """View (B, C, F, H, W) as (B, F, S, C); copies what is not channels-last in memory."""
    rows = x.permute(0, 2, 3, 4, 1)
    if x.stride(1) != 1 or rows.stride(2) != rows.stride(3) * rows.shape[3]:
        rows = rows.contiguous()
    return rows.flatten(2, 3)


def _video(rows: Tensor, like: Tensor) -> Tensor:
    """View (B, F, S, C) as (B, C, F, H, W)."""
    return rows.unflatten(2, like.shape[3:]).permute(0, 4, 1, 2, 3)


def _panels(width: int) -> int:
    return -(-width // _PANEL)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Run the forward kernel on rows (B, F, S, C) with a weight (C_out, C, 3)."""
    dtype = accumulator(x)
    width_out = weight.shape[0]
    missing = _panels(width_out) * _PANEL - width_out
    packed = pad(weight.to(dtype), (0, 0, 0, 0, 0, missing)).unflatten(0, (-1, _PANEL))
    packed = packed.permute(0, 3, 2, 1).contiguous()
    if bias is None:
        shift = x.new_zeros(width_out + missing, dtype=dtype)
    else:
        shift = pad(bias.to(dtype), (0, missing))
    y = x.new_empty(*x.shape[:3], width_out)
    batch, frames, space, width_in = x.shape
    arguments = _Arguments(
        batch=batch,
        frames=frames,
        space=space,
        width_in=width_in,
        width_out=width_out,
        x=array(x),
        y=array(y),
        packed=packed.data_ptr(),
        bias=shift.data_ptr(),
    )
    call("temporal_conv_forward", arguments, x)
    return y


@operator("unianimate::temporal_conv_native")
def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _video(_convolve(rows_of(x), weight.flatten(2), bias), x)


@operator("unianimate::temporal_conv_native_backward")
def _backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows, grad_rows = rows_of(x), rows_of(grad)
    turned = weight.flatten(2).transpose(0, 1).flip(2)
    grad_x = _video(_convolve(grad_rows, turned, None), x)
    width_out, width_in = weight.shape[:2]
    dtype = accumulator(x)
    grad_weight = x.new_zeros(3, width_out, _panels(width_in) * _PANEL, dtype=dtype)
    batch, frames, space, _ = rows.shape
    arguments = _Arguments(
        batch=batch,
        frames=frames,
        space=space,
        width_in=width_in,
        width_out=width_out,
        x=array(rows),
        y=array(grad_rows),
        grad=grad_weight.data_ptr(),
    )
    call("temporal_conv_backward", arguments, x)
    grad_weight = grad_weight[..., :width_in].permute(1, 2, 0).reshape(weight.shape)
    grad_bias = grad_rows.to(dtype).sum((0, 1, 2))
    # dense, as the fake says
    return grad_x, grad_weight.to(weight.dtype).contiguous(), grad_bias.to(weight.dtype)


def like_video(x: Tensor, channels: int) -> Tensor:
    """Return a new video, channels-last in memory, with other channels than x."""
    batch, _, frames, height, width = x.shape
    return x.new_empty(batch, frames, height, width, channels).permute(0, 4, 1, 2, 3)


@_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return like_video(x, weight.shape[0])


@_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (
        like_video(x, x.shape[1]),
        weight.new_empty(weight.shape),
        weight.new_empty(weight.shape[0]),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias = inputs
    ctx.save_for_backward(x, weight)
    ctx.has_bias = bias is not None


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    grad_x, grad_weight, grad_bias = _backward(grad, *ctx.saved_tensors)
    return grad_x, grad_weight, grad_bias if ctx.has_bias else None


_forward.register_autograd(_gradients, setup_context=_setup_context)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (B, C_out, F, H, W), channels-last in memory."""
    return _forward(x, weight, bias)
