"""The causal convolution in Triton, registered with torch.library.

A program of one warp walks the frames of a tile of channels of one location, with the window of
frames that the taps see as a tuple of vectors. "Steps" are frames in scan order. Backward
recomputes the convolution; a program takes a run of locations and sums the parameters' gradients
over them, and torch adds the runs up in a fixed order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._registration import operator
from .._triton_utils import launch, silu, silu_gradient
from ._autograd import empty_state, register

CHANNELS = 128
_PROGRAMS = 1024  # of a backward launch, about: fills a GPU, and bounds the partial sums


@triton.jit
def _frame(i, F, REVERSE: tl.constexpr):
    """Return which frame step i is, in 64 bits, as offsets of large tensors need."""
    frame = i
    if REVERSE:
        frame = F - 1 - i
    return tl.cast(frame, tl.int64)


@triton.jit
def _state_row(location, k: tl.constexpr, D, TAPS: tl.constexpr, REVERSE: tl.constexpr):
    """Return the offset of step k - (TAPS - 1), before the clip, in a state (B, S, TAPS - 1, D)."""
    row = k
    if REVERSE:
        row = TAPS - 2 - k
    return (location * (TAPS - 1) + row) * D


@triton.jit
def _load_taps(weight_ptr, d, D, TAPS: tl.constexpr):
    """Read the weights (TAPS, D) as a tuple of vectors."""
    taps = ()
    for k in tl.static_range(TAPS):
        taps = taps + (tl.load(weight_ptr + k * D + d, mask=d < D, other=0.0),)
    return taps


@triton.jit
def _begin(state_ptr, location, d, D, TAPS: tl.constexpr, REVERSE: tl.constexpr):
    """Return the steps before the clip as a tuple of TAPS - 1 vectors."""
    window = ()
    for k in tl.static_range(TAPS - 1):
        if state_ptr is None:
            window = window + (tl.zeros(d.shape, tl.float32),)
        else:
            at = state_ptr + _state_row(location, k, D, TAPS, REVERSE) + d
            window = window + (tl.load(at, mask=d < D, other=0.0),)
    return window


@triton.jit
def _convolve(window, taps, bias, TAPS: tl.constexpr):
    total = bias
    for k in tl.static_range(TAPS):
        total += taps[k] * window[k]
    return total


@triton.jit
def _later(window, TAPS: tl.constexpr):
    """Drop the oldest step of a window of TAPS."""
    rest = ()
    for k in tl.static_range(1, TAPS):
        rest = rest + (window[k],)
    return rest


@triton.jit
def _leave(
    dx, dstate_ptr, location, t, gradient, d, F, S, D,
    TAPS: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Write the gradient of step t: to its frame, or to the state if it is before the clip.

    ``dx`` are the channels of the location in the first frame of a dense tensor.
    """
    if t >= 0:
        at = dx + _frame(t, F, REVERSE) * (S * D)
        tl.store(at, gradient.to(at.dtype.element_ty), mask=d < D)
    elif dstate_ptr is not None:
        row = t + (TAPS - 1)
        if REVERSE:
            row = -1 - t
        tl.store(dstate_ptr + (location * (TAPS - 1) + row) * D + d, gradient, mask=d < D)


@triton.jit(do_not_specialize=["F"])
def forward_kernel(
    x, weight_ptr, bias_ptr, state_ptr, out_ptr, F, S, D, tiles,
    TAPS: tl.constexpr, REVERSE: tl.constexpr, SILU: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Program p convolves channel tile ``p % tiles`` of location ``p // tiles``."""
    location, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    b, s = location // S, location % S
    d = tile * CHANNELS + tl.arange(0, CHANNELS)
    there = d < D
    taps = _load_taps(weight_ptr, d, D, TAPS)
    bias = tl.zeros(d.shape, tl.float32)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + d, mask=there, other=0.0)
    window = _begin(state_ptr, location, d, D, TAPS, REVERSE)
    x_row = x[0] + b * x[1] + s * x[3] + d
    out = out_ptr + (b * F * S + s) * D + d
    for i in tl.range(0, F):
        frame = _frame(i, F, REVERSE)
        row = x_row + frame * x[2]
        steps = window + (tl.load(row, mask=there, other=0.0).to(tl.float32),)
        y = _convolve(steps, taps, bias, TAPS)
        if SILU:
            y = silu(y)
        tl.store(out + frame * (S * D), y.to(out_ptr.dtype.element_ty), mask=there)
        window = _later(steps, TAPS)


@triton.jit(do_not_specialize=["F", "locations", "run"])
def backward_kernel(
    grad_out, x, weight_ptr, bias_ptr, state_ptr, dx_ptr, dstate_ptr, sums_ptr,
    F, S, D, tiles, locations, run,
    TAPS: tl.constexpr, REVERSE: tl.constexpr, SILU: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Program p takes channel tile ``p % tiles`` of ``run`` locations from ``p // tiles * run``.

    It writes row ``p // tiles`` of ``sums`` (groups, TAPS + 1, D): the taps', then the bias'.
    """
    group, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    d = tile * CHANNELS + tl.arange(0, CHANNELS)
    there = d < D
    taps = _load_taps(weight_ptr, d, D, TAPS)
    zero = tl.zeros(d.shape, tl.float32)
    bias = zero
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + d, mask=there, other=0.0)
    dtaps, dbias = (), zero
    for _ in tl.static_range(TAPS):
        dtaps = dtaps + (zero,)
    for location in tl.range(group * run, tl.minimum((group + 1) * run, locations)):
        b, s = location // S, location % S
        window = _begin(state_ptr, location, d, D, TAPS, REVERSE)
        # gradients of the last TAPS - 1 steps, complete once the window has left them
        pending = ()
        for _ in tl.static_range(TAPS - 1):
            pending = pending + (zero,)
        x_row = x[0] + b * x[1] + s * x[3] + d
        grad_row = grad_out[0] + b * grad_out[1] + s * grad_out[3] + d
        dx = dx_ptr + (b * F * S + s) * D + d
        for i in tl.range(0, F):
            frame = _frame(i, F, REVERSE)
            row = x_row + frame * x[2]
            steps = window + (tl.load(row, mask=there, other=0.0).to(tl.float32),)
            g = tl.load(grad_row + frame * grad_out[2], mask=there, other=0.0)
            g = g.to(tl.float32)
            if SILU:
                g = g * silu_gradient(_convolve(steps, taps, bias, TAPS))
            dbias += g
            sums, grads = (), ()
            open_grads = pending + (zero,)
            for k in tl.static_range(TAPS):
                sums = sums + (dtaps[k] + g * steps[k],)
                grads = grads + (open_grads[k] + g * taps[k],)
            dtaps = sums
            _leave(dx, dstate_ptr, location, i - (TAPS - 1), grads[0], d, F, S, D, TAPS, REVERSE)
            window, pending = _later(steps, TAPS), _later(grads, TAPS)
        for k in tl.static_range(TAPS - 1):
            t = F - (TAPS - 1) + k
            _leave(dx, dstate_ptr, location, t, pending[k], d, F, S, D, TAPS, REVERSE)
    for k in tl.static_range(TAPS):
        tl.store(sums_ptr + (group * (TAPS + 1) + k) * D + d, dtaps[k], mask=there)
    tl.store(sums_ptr + (group * (TAPS + 1) + TAPS) * D + d, dbias, mask=there)


def _parameters(
    weight: Tensor, bias: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Lay the parameters out for the kernels: float32, taps first, dense."""
    taps = weight.float().t().contiguous()
    return (
        taps,
        None if bias is None else bias.float().contiguous(),
        None if state is None else state.contiguous(),
    )


@operator("unianimate::causal_conv1d_triton")
def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    reverse: bool,
    state: Tensor | None,
) -> Tensor:
    batch, frames, space, width = x.shape
    tiles = triton.cdiv(width, CHANNELS)
    out = x.new_empty(x.shape)
    launch(
        forward_kernel, batch * space * tiles, x,
        (x, *x.stride()[:3]), *_parameters(weight, bias, state), out, frames, space, width, tiles,
        weight.shape[1], reverse, silu, CHANNELS, num_warps=1,
    )  # fmt: skip
    return out


@operator("unianimate::causal_conv1d_triton_backward")
def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    reverse: bool,
    state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, frames, space, width = x.shape
    taps, tiles, locations = weight.shape[1], triton.cdiv(width, CHANNELS), batch * space
    run = triton.cdiv(locations * tiles, _PROGRAMS)
    groups = triton.cdiv(locations, run)
    grad_x, grad_state = x.new_empty(x.shape), empty_state(x, state)
    sums = x.new_empty(groups, taps + 1, width, dtype=torch.float32)
    launch(
        backward_kernel, groups * tiles, x,
        (grad, *grad.stride()[:3]), (x, *x.stride()[:3]), *_parameters(weight, bias, state),
        grad_x, grad_state if grad_state.numel() else None, sums,
        frames, space, width, tiles, locations, run,
        taps, reverse, silu, CHANNELS, num_warps=1,
    )  # fmt: skip
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
