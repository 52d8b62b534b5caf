"""The Mamba-2 scan in C++ and CUDA (csrc/ssd_scan), registered with torch.library."""

import ctypes
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._dense import contiguous, dense_last
from .._library import Arguments, Array, array, call, pointer
from .._registration import operator
from ._autograd import empty_gradients, empty_outputs, register, summed


class _Arguments(Arguments):
    """``ua_ssd_scan`` of csrc/ssd_scan/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "frames", "space", "heads", "width")),
        *((name, ctypes.c_int64) for name in ("groups", "d_state", "chunk")),
        *((name, ctypes.c_int64) for name in ("softplus", "reverse")),
        *((name, Array) for name in ("x", "z", "dt", "B", "C")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "dt_bias", "initial_state")),
        ("final_state", ctypes.c_void_p),
        ("out", Array),
        ("grad_out", Array),
        ("grad_final_state", ctypes.c_void_p),
        *((f"grad_{name}", Array) for name in ("x", "z", "dt", "B", "C")),
        *((f"grad_{name}", ctypes.c_void_p) for name in ("A", "D", "dt_bias", "initial_state")),
        ("workspace", ctypes.c_void_p),
        ("workspace_size", ctypes.c_int64),
        ("backward", ctypes.c_int64),
    ]


def _run(
    entry: str,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    softplus: bool,
    reverse: bool,
    chunk_size: int | None,
    initial_state: Tensor | None,
    **fields: Any,
) -> None:
    """Call ``entry`` with the arguments of the scan and the ``fields`` of its own."""
    batch, frames, space, heads, width = x.shape
    # small, and usually contiguous as they come
    dense = [contiguous(t) for t in (A, D, dt_bias, initial_state)]
    arguments = _Arguments(
        batch=batch,
        frames=frames,
        space=space,
        heads=heads,
        width=width,
        groups=B.shape[3],
        d_state=B.shape[4],
        chunk=chunk_size or 0,
        softplus=softplus,
        reverse=reverse,
        x=array(x),
        z=array(z),
        dt=array(dt),
        B=array(B),
        C=array(C),
        A=pointer(dense[0]),
        D=pointer(dense[1]),
        dt_bias=pointer(dense[2]),
        initial_state=pointer(dense[3]),
        **fields,
    )
    call("ssd_scan_plan", arguments, x)
    workspace = torch.empty(arguments.workspace_size, dtype=torch.uint8, device=x.device)
    arguments.workspace = pointer(workspace)
    call(entry, arguments, x)


@operator("unianimate::ssd_scan_native")
def _forward(
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
    chunk_size: int | None,
    initial_state: Tensor | None,
    return_final_state: bool,
) -> tuple[Tensor, Tensor]:
    out, state = empty_outputs(x, B, return_final_state)
    _run(
        *("ssd_scan_forward", x, dt, A, B, C, D, z, dt_bias),
        *(dt_softplus, reverse, chunk_size, initial_state),
        out=array(out),
        final_state=pointer(state),
    )
    return out, state


@operator("unianimate::ssd_scan_native_backward")
def _backward(
    grad: Tensor,
    grad_state: Tensor | None,
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
    chunk_size: int | None,
    initial_state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    grad, grad_state = dense_last(grad), contiguous(grad_state)
    found = empty_gradients(x, dt, B, D, z, dt_bias, initial_state)
    parameters = ("A", "D", "dt_bias", "initial_state")
    fields: dict[str, Any] = {
        f"grad_{name}": (pointer if name in parameters else array)(gradient)
        for name, gradient in found._asdict().items()
    }
    _run(
        *("ssd_scan_backward", x, dt, A, B, C, D, z, dt_bias),
        *(dt_softplus, reverse, chunk_size, initial_state),
        backward=True,
        grad_out=array(grad),
        grad_final_state=pointer(grad_state),
        **fields,
    )
    return tuple(summed(found))  # type: ignore[return-value]


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
    chunk_size: int | None,
    initial_state: Tensor | None,
    return_final_state: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gated output and the final state, empty if it is not asked for."""
    return _forward(
        *(x, dt, A, B, C, D, z, dt_bias),
        *(dt_softplus, reverse, chunk_size, initial_state, return_final_state),
    )
