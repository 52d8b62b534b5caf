"""The selective scan in C++ and CUDA (csrc/selective_scan), registered with torch.library."""

import ctypes
from typing import Any, ClassVar

from torch import Tensor

from .._dense import contiguous, dense_last
from .._library import Arguments, Array, array, call, pointer
from .._registration import operator
from ._autograd import empty_like, empty_outputs, register
from .reference import accumulator


class Sizes(ctypes.Structure):
    """``ua_scan_sizes`` of csrc/selective_scan/api.h."""

    _fields_: ClassVar = [
        (name, ctypes.c_int64)
        for name in ("batch", "frames", "space", "width", "d_state", "geometric", "softplus")
    ]


class Inputs(ctypes.Structure):
    """``ua_scan_inputs``."""

    _fields_: ClassVar = [(name, Array) for name in ("x", "dt", "B", "C")] + [
        (name, ctypes.c_void_p) for name in ("A", "D", "dt_bias")
    ]


class Gradients(ctypes.Structure):
    """``ua_scan_gradients``."""

    _fields_: ClassVar = [
        (name, ctypes.c_void_p) for name in ("x", "dt", "B", "C", "A", "D", "dt_bias")
    ]


class _Arguments(Arguments):
    """``ua_selective_scan``."""

    _fields_: ClassVar = [
        ("sizes", Sizes),
        ("reverse", ctypes.c_int64),
        ("inputs", Inputs),
        ("z", Array),
        ("initial_state", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("final_state", ctypes.c_void_p),
        ("grad_out", Array),
        ("grad_final_state", ctypes.c_void_p),
        ("gradients", Gradients),
        ("grad_z", ctypes.c_void_p),
        ("grad_initial_state", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
        ("workspace_size", ctypes.c_int64),
    ]


def sizes(x: Tensor, A: Tensor, B: Tensor, dt_softplus: bool) -> Sizes:
    """Describe a scan of ``x`` (B, F, S, D) with states of ``B`` (B, F, S, N)."""
    return Sizes(*x.shape, B.shape[-1], A.dim() == 1, dt_softplus)


def inputs(
    x: Tensor | None,
    dt: Tensor | None,
    A: Tensor | None,
    B: Tensor | None,
    C: Tensor | None,
    D: Tensor | None,
    dt_bias: Tensor | None,
) -> Inputs:
    """Describe what one direction reads; the parameters are contiguous."""
    return Inputs(*map(array, (x, dt, B, C)), *map(pointer, (A, D, dt_bias)))


def gradients(*tensors: Tensor) -> Gradients:
    """Describe where those of x, dt, A, B, C, D and dt_bias go; an empty tensor is none."""
    x, dt, A, B, C, D, dt_bias = tensors
    return Gradients(*map(pointer, (x, dt, B, C, A, D, dt_bias)))


def run(entry: str, arguments: Any, like: Tensor) -> None:
    """Run ``entry`` with the scratch memory its ``_workspace`` entry asks for."""
    call(f"{entry}_workspace", arguments, like)
    workspace = like.new_empty(arguments.workspace_size, dtype=accumulator(like))
    arguments.workspace = pointer(workspace)
    call(entry, arguments, like)


@operator("unianimate::selective_scan_native")
def _forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    return_final_state: bool,
) -> tuple[Tensor, Tensor]:
    out, final_state = empty_outputs(x, B, return_final_state)
    parameters = tuple(map(contiguous, (A, D, dt_bias, initial_state)))
    arguments = _Arguments(
        sizes=sizes(x, A, B, dt_softplus),
        reverse=reverse,
        inputs=inputs(x, dt, parameters[0], B, C, *parameters[1:3]),
        z=array(z),
        initial_state=pointer(parameters[3]),
        out=out.data_ptr(),
        final_state=pointer(final_state),
    )
    run("selective_scan_forward", arguments, x)
    return out, final_state


_NineTensors = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]  # of x, dt, A, B, C, D, z, dt_bias, initial_state


@operator("unianimate::selective_scan_native_backward")
def _backward(
    grad_out: Tensor,
    grad_final_state: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
) -> _NineTensors:
    grads = empty_like(x, x, dt, A, B, C, D, z, dt_bias, initial_state)
    parameters = tuple(map(contiguous, (A, D, dt_bias, initial_state, grad_final_state)))
    grad_out = dense_last(grad_out)
    arguments = _Arguments(
        sizes=sizes(x, A, B, dt_softplus),
        reverse=reverse,
        inputs=inputs(x, dt, parameters[0], B, C, *parameters[1:3]),
        z=array(z),
        initial_state=pointer(parameters[3]),
        grad_out=array(grad_out),
        grad_final_state=pointer(parameters[4]),
        gradients=gradients(*grads[:6], grads[7]),
        grad_z=pointer(grads[6]),
        grad_initial_state=pointer(grads[8]),
    )
    run("selective_scan_backward", arguments, x)
    return grads  # type: ignore[return-value]


register(_forward, _backward)


def forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    initial_state: Tensor | None,
    return_final_state: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gated output, and the final state if it is wanted (else an empty tensor)."""
    return _forward(
        x, dt, A, B, C, D, z, dt_bias, initial_state, dt_softplus, reverse, return_final_state
    )
