"""The causal convolution in C++ and CUDA (csrc/causal_conv1d), registered with torch.library."""

import ctypes
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._library import Arguments, Array, array, call, pointer
from .._registration import operator
from ..selective_scan.reference import accumulator
from ._autograd import empty_state, register

# partial sums of the parameters' gradients: enough for any number of threads, fixed by the shape
_MAX_BLOCKS = {"cpu": 64, "cuda": 1024}


class _Arguments(Arguments):
    """``ua_causal_conv1d`` of csrc/causal_conv1d/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "frames", "space", "width", "taps")),
        *((name, ctypes.c_int64) for name in ("reverse", "silu", "blocks")),
        *((name, Array) for name in ("x", "y", "grad_x")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "state", "grad_state")),
        ("grad_parameters", ctypes.c_void_p),
    ]


def _call(
    entry: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    reverse: bool,
    state: Tensor | None,
    y: Tensor,
    **gradients: Any,
) -> None:
    dtype = accumulator(x)
    taps = weight.to(dtype).t().contiguous()
    shift = None if bias is None else bias.to(dtype)
    state = None if state is None else state.contiguous()
    batch, frames, space, width = x.shape
    arguments = _Arguments(
        batch=batch,
        frames=frames,
        space=space,
        width=width,
        taps=weight.shape[1],
        reverse=reverse,
        silu=silu,
        x=array(x),
        y=array(y),
        weight=taps.data_ptr(),
        bias=pointer(shift),
        state=pointer(state),
        **gradients,
    )
    call(entry, arguments, x)


@operator("unianimate::causal_conv1d_native")
def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    reverse: bool,
    state: Tensor | None,
) -> Tensor:
    y = x.new_empty(x.shape)
    _call("causal_conv1d_forward", x, weight, bias, silu, reverse, state, y)
    return y


@operator("unianimate::causal_conv1d_native_backward")
def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    reverse: bool,
    state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = accumulator(x)
    batch, _, space, width = x.shape
    blocks = min(batch * space, _MAX_BLOCKS[x.device.type])
    sums = torch.zeros(blocks, weight.shape[1] + 1, width, dtype=dtype, device=x.device)
    grad_x = x.new_empty(x.shape)
    grad_state = empty_state(x, state)
    _call(
        *("causal_conv1d_backward", x, weight, bias, silu, reverse, state, grad),
        blocks=blocks,
        grad_x=array(grad_x),
        grad_state=pointer(grad_state),
        grad_parameters=sums.data_ptr(),
    )
    total = sums.sum(0).to(weight.dtype)
    return grad_x, total[:-1].t().contiguous(), total[-1].clone(), grad_state


register(_forward, _backward)


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    reverse: bool,
    initial_state: Tensor | None,
) -> Tensor:
    """Return the output in x's dtype."""
    return _forward(x, weight, bias, activation == "silu", reverse, initial_state)
