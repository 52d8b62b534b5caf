"""Both directions of the selective scan in Triton, registered with torch.library.

Forward is one kernel: a program sweeps its tile of channels onwards, leaves y in float32, then
sweeps back, adds and gates; the second sweep finds x, dt and y in the cache. Decays are computed
by each sweep also where the directions share them: keeping those of all frames would move 8 bytes
a state through memory to save one exponential. Backward runs the kernel of `selective_scan` once a
direction; what both directions contribute to is float32 until the second has added its part.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._dense import dense_last
from .._registration import operator
from .._triton_utils import launch
from ..selective_scan._autograd import empty_like
from ..selective_scan.triton import (
    FORWARD_STATES,
    Addends,
    Direction,
    channels,
    scan_backward,
    strided,
    sweep,
)
from ._autograd import register
from .reference import Dynamics


@triton.jit(do_not_specialize=["F"])
def forward_kernel(
    x, dt, A_ptr, B, C, D_ptr, bias_ptr,
    x_reverse, dt_reverse, A_reverse_ptr, B_reverse, C_reverse, D_reverse_ptr, bias_reverse_ptr,
    z, partial_ptr, out_ptr, F, S, D, tiles,
    N: tl.constexpr, SOFTPLUS: tl.constexpr, GEOMETRIC: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Program p scans channel tile ``p % tiles`` of location ``p // tiles``, there and back."""
    location, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    sweep(
        x, dt, A_ptr, B, C, D_ptr, bias_ptr, None, None, None, None, partial_ptr,
        location, tile, F, S, D, N, False, SOFTPLUS, GEOMETRIC, CHANNELS,
    )  # fmt: skip
    tl.debug_barrier()  # y may be read by other threads than wrote it
    sweep(
        x_reverse, dt_reverse, A_reverse_ptr, B_reverse, C_reverse, D_reverse_ptr,
        bias_reverse_ptr, None, None, partial_ptr, z, out_ptr,
        location, tile, F, S, D, N, True, SOFTPLUS, GEOMETRIC, CHANNELS,
    )  # fmt: skip


def _directions(
    onward: tuple[Tensor | None, ...], own: tuple[Tensor | None, ...]
) -> tuple[Direction, Direction]:
    """Lay out x, dt, A, B, C, D, dt_bias and the reverse direction's own, None where shared."""
    backward = (a if b is None else b for a, b in zip(onward, own, strict=True))
    return Direction.of(*onward), Direction.of(*backward)


def _partial(result: Tensor) -> Tensor:
    """Return float32 memory for the first half of a sum: that of the result if it is float32."""
    return result if result.dtype == torch.float32 else result.new_empty(result.shape).float()


@operator("unianimate::bidirectional_selective_scan_triton")
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
    own = (x_reverse, dt_reverse, A_reverse, B_reverse, C_reverse, D_reverse, dt_bias_reverse)
    onward, backward = _directions((x, dt, A, B, C, D, dt_bias), own)
    (batch, frames, space, width), d_state = x.shape, B.shape[3]
    tile = channels(d_state, FORWARD_STATES)
    tiles = triton.cdiv(width, tile)
    launch(
        forward_kernel, batch * space * tiles, x, *onward.arguments(), *backward.arguments(),
        strided(z), _partial(out), out, frames, space, width, tiles,
        d_state, dt_softplus, A.dim() == 1, tile, num_warps=1,
    )  # fmt: skip
    return out


_FifteenTensors = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
]  # fmt: skip


@operator("unianimate::bidirectional_selective_scan_triton_backward")
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
    onward, backward = _directions((x, dt, A, B, C, D, dt_bias), own)
    grad_out = dense_last(grad_out)
    dx, ddt, dz, dx_reverse, ddt_reverse = empty_like(x, x, dt, z, x_reverse, dt_reverse)
    first_dx, first_ddt = dx, ddt
    if x_reverse is None:
        first_dx, dx_reverse = _partial(dx), dx
    if dt_reverse is None:
        first_ddt, ddt_reverse = _partial(ddt), ddt
    first_dz = _partial(dz)
    first = scan_backward(
        onward, z, grad_out, None, None,
        (first_dx, first_ddt, first_dz, None), Addends(), dt_softplus, False,
    )  # fmt: skip
    addends = Addends(
        first_dx if x_reverse is None else None,
        first_ddt if dt_reverse is None else None,
        None if z is None else first_dz,
    )
    second = scan_backward(
        backward, z, grad_out, None, None,
        (dx_reverse, ddt_reverse, dz, None), addends, dt_softplus, True,
    )  # fmt: skip
    grads, grads_reverse = [], []
    for there, back, mine in zip(first, second, own[2:], strict=True):
        grads.append(there.sum(0) + back.sum(0) if mine is None else there.sum(0))
        grads_reverse.append(x.new_empty(0) if mine is None else back.sum(0))
    dA, dB, dC, dD, dbias = grads
    dA_reverse, dB_reverse, dC_reverse, dD_reverse, dbias_reverse = grads_reverse
    nothing = x.new_empty(0)
    return (
        dx, ddt, dA, dB.to(x.dtype), dC.to(x.dtype), dD, dz, dbias,
        nothing if x_reverse is None else dx_reverse,
        nothing.clone() if dt_reverse is None else ddt_reverse,
        dA_reverse, dB_reverse.to(x.dtype), dC_reverse.to(x.dtype), dD_reverse, dbias_reverse,
    )  # fmt: skip


register(_forward, _backward)


def forward(onward: Dynamics, backward: Dynamics, z: Tensor | None, dt_softplus: bool) -> Tensor:
    """Return (B, F, S, D); ``onward`` and ``backward`` are x, dt, A, B, C, D, dt_bias."""
    own = (None if b is a else b for a, b in zip(onward, backward, strict=True))
    return _forward(*onward[:6], z, onward[6], *own, dt_softplus)
