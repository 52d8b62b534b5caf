"""The gated GELU in C++ (csrc/geglu), registered with torch.library."""

import ctypes
from typing import Any, ClassVar

from torch import Tensor

from .._library import Arguments, call
from .._registration import operator


class _Arguments(Arguments):
    """``ua_geglu`` of csrc/geglu/api.h."""

    _fields_: ClassVar = [
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("x", ctypes.c_void_p),
        ("grad", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("x_stride", ctypes.c_int64),
    ]


def _rows(x: Tensor) -> Tensor:
    """View as rows of dense values; copies only where no single row stride exists."""
    return x.reshape(-1, x.shape[-1])


@operator("unianimate::geglu_native")
def _forward(x: Tensor) -> Tensor:
    rows = _rows(x)
    out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
    arguments = _Arguments(
        rows=rows.shape[0],
        width=out.shape[-1],
        x=rows.data_ptr(),
        out=out.data_ptr(),
        x_stride=rows.stride(0),
    )
    call("geglu_forward", arguments, x)
    return out


@operator("unianimate::geglu_native_backward")
def _backward(grad: Tensor, x: Tensor) -> Tensor:
    rows, grad = _rows(x), grad.contiguous()
    out = x.new_empty(x.shape)
    arguments = _Arguments(
        rows=rows.shape[0],
        width=grad.shape[-1],
        x=rows.data_ptr(),
        grad=grad.data_ptr(),
        out=out.data_ptr(),
        x_stride=rows.stride(0),
    )
    call("geglu_backward", arguments, x)
    return out


@_forward.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], x.shape[-1] // 2)


@_backward.register_fake
def _(grad: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> Tensor:
    return _backward(grad, *ctx.saved_tensors)


_forward.register_autograd(_gradients, setup_context=_setup_context)


def forward(x: Tensor) -> Tensor:
    """Return (..., H) for (..., 2H)."""
    return _forward(x)
