"""Both directions of the selective scan in one kernel (csrc/bidirectional_selective_scan)."""

import ctypes
from typing import ClassVar

from torch import Tensor

from .._dense import contiguous, dense_last
from .._library import Arguments, Array, array, pointer
from .._registration import operator
from ..selective_scan._autograd import empty_like
from ..selective_scan.native import (
    Gradients,
    Inputs,
    Sizes,
    gradients,
    inputs,
    run,
    sizes,
)
from ._autograd import register
from .reference import Dynamics


class _Arguments(Arguments):
    """``ua_bidirectional_selective_scan`` of csrc/bidirectional_selective_scan/api.h."""

    _fields_: ClassVar = [
        ("sizes", Sizes),
        ("onward", Inputs),
        ("backward", Inputs),
        ("z", Array),
        ("out", ctypes.c_void_p),
        ("grad_out", Array),
        ("grad_onward", Gradients),
        ("grad_backward", Gradients),
        ("grad_z", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
        ("workspace_size", ctypes.c_int64),
    ]


@operator("unianimate::bidirectional_selective_scan_native")
def _forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    x_reverse: Tensor | None,
    dt_reverse: Tensor | None,
    A_reverse: Tensor | None,
    B_reverse: Tensor | None,
    C_reverse: Tensor | None,
    D_reverse: Tensor | None,
    dt_bias_reverse: Tensor | None,
    dt_softplus: bool,
) -> Tensor:
    out = x.new_empty(x.shape)
    parameters = tuple(map(contiguous, (A, D, dt_bias, A_reverse, D_reverse, dt_bias_reverse)))
    arguments = _Arguments(
        sizes=sizes(x, A, B, dt_softplus),
        onward=inputs(x, dt, parameters[0], B, C, *parameters[1:3]),
        backward=inputs(
            x_reverse, dt_reverse, parameters[3], B_reverse, C_reverse, *parameters[4:]
        ),
        z=array(z),
        out=out.data_ptr(),
    )
    run("bidirectional_selective_scan_forward", arguments, x)
    return out


_FifteenTensors = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
]  # fmt: skip


@operator("unianimate::bidirectional_selective_scan_native_backward")
def _backward(
    grad_out: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    x_reverse: Tensor | None,
    dt_reverse: Tensor | None,
    A_reverse: Tensor | None,
    B_reverse: Tensor | None,
    C_reverse: Tensor | None,
    D_reverse: Tensor | None,
    dt_bias_reverse: Tensor | None,
    dt_softplus: bool,
) -> _FifteenTensors:
    own = (x_reverse, dt_reverse, A_reverse, B_reverse, C_reverse, D_reverse, dt_bias_reverse)
    grads = empty_like(x, x, dt, A, B, C, D, z, dt_bias, *own)
    parameters = tuple(map(contiguous, (A, D, dt_bias, A_reverse, D_reverse, dt_bias_reverse)))
    grad_out = dense_last(grad_out)
    arguments = _Arguments(
        sizes=sizes(x, A, B, dt_softplus),
        onward=inputs(x, dt, parameters[0], B, C, *parameters[1:3]),
        backward=inputs(
            x_reverse, dt_reverse, parameters[3], B_reverse, C_reverse, *parameters[4:]
        ),
        z=array(z),
        grad_out=array(grad_out),
        grad_onward=gradients(*grads[:6], grads[7]),
        grad_backward=gradients(*grads[8:]),
        grad_z=pointer(grads[6]),
    )
    run("bidirectional_selective_scan_backward", arguments, x)
    return grads  # type: ignore[return-value]


register(_forward, _backward)


def forward(onward: Dynamics, backward: Dynamics, z: Tensor | None, dt_softplus: bool) -> Tensor:
    """Return (B, F, S, D); ``onward`` and ``backward`` are x, dt, A, B, C, D, dt_bias."""
    own = (None if b is a else b for a, b in zip(onward, backward, strict=True))
    return _forward(*onward[:6], z, onward[6], *own, dt_softplus)
