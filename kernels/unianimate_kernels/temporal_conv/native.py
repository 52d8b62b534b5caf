"""The 3x1x1 convolution in C++ (csrc/temporal_conv), registered with torch.library.

Channels-last float32 and float64 input is read in place; other input is copied once, bfloat16
into float32. The weight is packed at each call. The result is channels-last.
"""

import ctypes
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from .._library import Arguments, Array, array, call, pointer

# columns of a panel: the widest register tile, and what the panels of few channels round up to
_PANEL, _LANES = 64, 16


class _Arguments(Arguments):
    """``ua_temporal_conv`` of csrc/temporal_conv/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "frames", "locations", "channels")),
        ("width", ctypes.c_int64),
        ("panel", ctypes.c_int64),
        ("x", Array),
        ("y", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    ]


def _rows(x: Tensor) -> Tensor:
    """View (B, C, F, H, W) as (B, F, H*W, C) of the arithmetic's type with a dense last axis."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    rows = x.permute(0, 2, 3, 4, 1).flatten(2, 3).to(dtype)
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def _sizes(x: Tensor, columns: int) -> dict[str, Any]:
    panel = min(_PANEL, -(-columns // _LANES) * _LANES)
    sizes = dict(zip(("batch", "frames", "locations", "channels"), x.shape, strict=True))
    return {**sizes, "width": -(-columns // panel) * panel, "panel": panel, "x": array(x)}


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (B, C_out, F, H, W), channels-last, for (B, C, F, H, W)."""
    rows, columns = _rows(x), weight.shape[0]
    sizes = _sizes(rows, columns)
    missing = sizes["width"] - columns
    # (C_out, C, 3) -> panels (C_out / panel, 3, C, panel)
    packed = pad(weight.flatten(2).permute(2, 1, 0).to(rows.dtype), (0, missing))
    packed = packed.unflatten(2, (-1, sizes["panel"])).permute(2, 0, 1, 3).contiguous()
    bias = None if bias is None else pad(bias.to(rows.dtype), (0, missing))
    y = rows.new_empty(*rows.shape[:3], sizes["width"])
    arguments = _Arguments(**sizes, y=y.data_ptr(), weight=packed.data_ptr(), bias=pointer(bias))
    call("temporal_conv_forward", arguments, rows)
    y = y[..., :columns].to(x.dtype).contiguous()
    return y.unflatten(2, x.shape[3:]).permute(0, 4, 1, 2, 3)


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Return (C_out, C, 3, 1, 1)."""
    rows, columns = _rows(x), grad.shape[1]
    sizes = _sizes(rows, columns)
    y = pad(_rows(grad), (0, sizes["width"] - columns)).contiguous()
    out = rows.new_zeros(3, rows.shape[3], sizes["width"])
    arguments = _Arguments(**sizes, y=y.data_ptr(), weight=out.data_ptr())
    call("temporal_conv_weight_gradient", arguments, rows)
    return out[..., :columns].permute(2, 1, 0)[..., None, None].to(x.dtype).contiguous()


@torch.library.custom_op("unianimate::temporal_conv_native", mutates_args=())
def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _convolve(x, weight, bias)


@torch.library.custom_op("unianimate::temporal_conv_native_backward", mutates_args=())
def _backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias."""
    dx = _convolve(grad, weight.transpose(0, 1).flip(2), None)
    sums = _rows(grad).sum((0, 1, 2)).to(grad.dtype)
    return dx, _weight_gradient(x, grad), sums


def _like(x: Tensor, channels: int) -> Tensor:
    batch, _, *axes = x.shape
    return x.new_empty(batch, *axes, channels).permute(0, 4, 1, 2, 3)


@_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _like(x, weight.shape[0])


@_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _like(x, x.shape[1]), weight.new_empty(weight.shape), x.new_empty(weight.shape[0])


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    x, weight, bias = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, weight)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    dx, dweight, dbias = _backward(grad, *ctx.saved_tensors)
    return dx, dweight, dbias if ctx.has_bias else None


_forward.register_autograd(_gradients, setup_context=_setup_context)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (B, C_out, F, H, W), channels-last in memory."""
    return _forward(x, weight, bias)
