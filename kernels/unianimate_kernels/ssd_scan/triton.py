"""The Mamba-2 scan in Triton, registered with torch.library.

A program computes one head of one location (forward: 64 channels of it) in chunks of frames (arXiv
2405.21060, section 6): inside a chunk a product with the masked matrix W[i, j] = (C[i] . B[j])
L[i, j] delta[j], between chunks a state. A clip of one chunk touches no state unless one is given
or asked for. States lie in global memory and are walked in small tiles, which stay in L1 and L2:
[N, P] in registers spills. Products are float32, most by three passes of tensor cores ("tf32x3").

Backward saves nothing in forward. One sweep finds the state before each chunk, another the gradient
of the state behind each; then all chunks are independent. dB and dC of a group are written a head
at a time and summed by torch in a fixed order, and so are those of A, D and dt_bias over the
locations and chunks. There are no atomics.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from .._dense import contiguous, dense_last
from .._registration import operator
from .._triton_utils import launch, sigmoid, silu, silu_gradient, softplus
from ._autograd import empty_gradients, empty_outputs, register, summed

# tiles: as large as leaves no kernel a spill
FRAMES = 32  # of a forward chunk; shorter clips take the least that tl.dot takes, 16
CHANNELS = 64  # of a forward program
STATES = 16
BACKWARD_FRAMES = 16
BACKWARD_CHANNELS = 32
WARPS = 4


@triton.jit
def _dot(a, b, PRECISION: tl.constexpr = tl.constexpr("tf32x3")):
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def _load(array, b, s, h, t, c, F, WIDTH, REVERSE: tl.constexpr):
    """Read frames ``t`` in the order of the scan [frames, channels] as float32, zero outside.

    ``array`` is (pointer, strides of batch, frame, location and head).
    """
    f = (F - 1 - t if REVERSE else t).to(tl.int64)
    rows = array[0] + b * array[1] + f * array[2] + s * array[3] + h * array[4]
    inside = (t < F)[:, None] & (c < WIDTH)[None, :]
    return tl.load(rows[:, None] + c[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _rows(b, s, h, t, F, space, heads, REVERSE: tl.constexpr):
    """Return which row of a contiguous (B, F, S, H, width) each frame is."""
    f = (F - 1 - t if REVERSE else t).to(tl.int64)
    return ((b * F + f) * space + s) * heads + h


@triton.jit
def _store(ptr, rows, t, c, F, WIDTH, value):
    """Write [frames, channels] of a contiguous array in its dtype."""
    inside = (t < F)[:, None] & (c < WIDTH)[None, :]
    at = ptr + rows[:, None] * WIDTH + c[None, :]
    tl.store(at, value.to(ptr.dtype.element_ty), mask=inside)


@triton.jit
def _load_dt(dt, bias_ptr, b, s, h, t, F, REVERSE: tl.constexpr):
    """Read dt + bias of the chunk's frames [frames]."""
    f = (F - 1 - t if REVERSE else t).to(tl.int64)
    at = dt[0] + b * dt[1] + f * dt[2] + s * dt[3] + h
    raw = tl.load(at, mask=t < F, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        raw += tl.load(bias_ptr + h)
    return raw


@triton.jit
def _step(raw, t, F, SOFTPLUS: tl.constexpr):
    """Return delta [frames], zero beyond the clip: such a frame changes nothing."""
    if SOFTPLUS:
        raw = softplus(raw)
    return tl.where(t < F, raw, 0.0)


@triton.jit
def _decays(log_decay, T: tl.constexpr):
    """Return L [i, j], and the decays from before the chunk to i and from j to its end.

    The sums run over the frames in between, because a difference of two long sums loses digits.
    """
    i = tl.arange(0, T)
    after = i[:, None] > i[None, :]
    between = tl.cumsum(tl.where(after, log_decay[:, None], 0.0), axis=0)
    L = tl.where(i[:, None] >= i[None, :], tl.exp(between), 0.0)
    to_end = tl.exp(tl.sum(tl.where(after, log_decay[:, None], 0.0), axis=0))
    return L, tl.exp(tl.cumsum(log_decay, axis=0)), to_end


@triton.jit
def _state(ptr, index, n, p, N, P):
    """Return addresses [n, p] in state number ``index`` of (..., P, N), and which exist."""
    return ptr + index * P * N + p[None, :] * N + n[:, None], (n < N)[:, None] & (p < P)[None, :]


@triton.jit
def _copy_state(
    from_ptr, to_ptr, offset, index, p, N, P, CHANNELS: tl.constexpr, STATES: tl.constexpr
):
    """Copy state ``index`` to ``offset + index``, or write zeros where there is none."""
    for first in tl.range(0, N, STATES):
        n = first + tl.arange(0, STATES)
        state = tl.zeros([STATES, CHANNELS], tl.float32)
        if from_ptr is not None:
            at, inside = _state(from_ptr, index, n, p, N, P)
            state = tl.load(at, mask=inside, other=0.0)
        at, inside = _state(to_ptr, offset + index, n, p, N, P)
        tl.store(at, state, mask=inside)


@triton.jit
def _parameter(ptr, h):
    """Read a number of a head; zero where the parameter is absent."""
    value = 0.0
    if ptr is not None:  # Triton 3.6 compiles what stands behind a `return`, too
        value = tl.load(ptr + h)
    return value


@triton.jit
def forward_kernel(
    x, dt, A_ptr, B, C, D_ptr, z, bias_ptr, initial_ptr, state_ptr, out_ptr,
    F, space, heads, shared, P, N,
    REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr,
    T: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """Scan one tile of channels of one head of one location; heads and tiles vary fastest.

    ``state`` (B, S, H, P, N) is where the state lies from chunk to chunk and at the end; it is
    None where there is a single chunk, no initial state and no need of the final one.
    """
    tiles = tl.cdiv(P, CHANNELS)
    row = tl.program_id(0).to(tl.int64) // tiles
    location, h = row // heads, row % heads
    b, s, g = location // space, location % space, h // shared
    p = tl.program_id(0) % tiles * CHANNELS + tl.arange(0, CHANNELS)
    rate, skip = tl.load(A_ptr + h), _parameter(D_ptr, h)
    if state_ptr is not None:
        _copy_state(initial_ptr, state_ptr, 0, row, p, N, P, CHANNELS, STATES)
    for first in tl.range(0, F, T):
        t = first + tl.arange(0, T)
        delta = _step(_load_dt(dt, bias_ptr, b, s, h, t, F, REVERSE), t, F, SOFTPLUS)
        L, from_start, to_end = _decays(delta * rate, T)
        xs = _load(x, b, s, h, t, p, F, P, REVERSE)
        scores = tl.zeros([T, T], tl.float32)
        y = skip * xs
        # a tile of the state may be read by other threads than wrote it
        tl.debug_barrier()
        for first_state in tl.range(0, N, STATES):
            n = first_state + tl.arange(0, STATES)
            Bs = _load(B, b, s, g, t, n, F, N, REVERSE)
            Cs = _load(C, b, s, g, t, n, F, N, REVERSE)
            scores += _dot(Cs, tl.trans(Bs))
            if state_ptr is not None:
                at, inside = _state(state_ptr, row, n, p, N, P)
                state = tl.load(at, mask=inside, other=0.0)
                y += _dot(Cs * from_start[:, None], state)
                update = _dot(tl.trans(Bs * (to_end * delta)[:, None]), xs)
                whole = tl.exp(tl.sum(delta * rate, axis=0))
                tl.store(at, state * whole + update, mask=inside)
        y += _dot(scores * L * delta[None, :], xs)
        if z is not None:
            y = y * silu(_load(z, b, s, h, t, p, F, P, REVERSE))
        _store(out_ptr, _rows(b, s, h, t, F, space, heads, REVERSE), t, p, F, P, y)


@triton.jit
def _load_gradient(grad, z, b, s, h, t, p, F, P, REVERSE: tl.constexpr):
    """Read the gradient of the ungated output [frames, channels]."""
    dy = _load(grad, b, s, h, t, p, F, P, REVERSE)
    if z is not None:
        dy = dy * silu(_load(z, b, s, h, t, p, F, P, REVERSE))
    return dy


@triton.jit
def sweep_kernel(
    x, dt, A_ptr, B, z, bias_ptr, start_ptr, states_ptr,
    F, space, heads, shared, P, N, steps,
    REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr, ADJOINT: tl.constexpr,
    T: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """Write states (chunks + 1, B, S, H, P, N): number c stands before chunk c.

    They begin with ``start`` at 0 and take ``steps`` chunks; for ADJOINT these are gradients, begin
    at the last and go back, ``x`` being the gradient of the output and ``B`` being C.
    """
    tiles = tl.cdiv(P, CHANNELS)
    rows = tl.num_programs(0).to(tl.int64) // tiles
    row = tl.program_id(0).to(tl.int64) // tiles
    location, h = row // heads, row % heads
    b, s, g = location // space, location % space, h // shared
    p = tl.program_id(0) % tiles * CHANNELS + tl.arange(0, CHANNELS)
    rate = tl.load(A_ptr + h)
    chunks = tl.cdiv(F, T)
    offset = chunks * rows if ADJOINT else rows * 0
    _copy_state(start_ptr, states_ptr, offset, row, p, N, P, CHANNELS, STATES)
    for step in tl.range(0, steps):
        t = (chunks - 1 - step if ADJOINT else step) * T + tl.arange(0, T)
        delta = _step(_load_dt(dt, bias_ptr, b, s, h, t, F, REVERSE), t, F, SOFTPLUS)
        _, from_start, to_end = _decays(delta * rate, T)
        weight = from_start if ADJOINT else to_end * delta
        xs = _load_gradient(x, z, b, s, h, t, p, F, P, REVERSE)
        whole = tl.exp(tl.sum(delta * rate, axis=0))
        after = offset - rows if ADJOINT else offset + rows
        # tiles of the state may be read by other threads than wrote them
        tl.debug_barrier()
        for first_state in tl.range(0, N, STATES):
            n = first_state + tl.arange(0, STATES)
            weighted = _load(B, b, s, g, t, n, F, N, REVERSE) * weight[:, None]
            at, inside = _state(states_ptr, offset + row, n, p, N, P)
            state = tl.load(at, mask=inside, other=0.0) * whole + _dot(tl.trans(weighted), xs)
            at, inside = _state(states_ptr, after + row, n, p, N, P)
            tl.store(at, state, mask=inside)
        offset = after


@triton.jit
def backward_kernel(
    x, dt, A_ptr, B, C, D_ptr, z, bias_ptr, entries_ptr, exits_ptr, grad,
    dx_ptr, ddt_ptr, dB_ptr, dC_ptr, dz_ptr, dA_ptr, dD_ptr, dbias_ptr,
    F, space, heads, shared, P, N,
    REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr,
    T: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of one chunk of one head of one location; chunks vary fastest.

    dB and dC are (B, F, S, H, N), a head's own share; dA, dD and dbias (chunks, B, S, H).
    ``entries`` holds the state before every chunk, ``exits`` the gradient of the state behind it;
    either is None where all of it is zero.
    """
    chunks = tl.cdiv(F, T)
    row, c = tl.program_id(0).to(tl.int64) // chunks, tl.program_id(0) % chunks
    location, h = row // heads, row % heads
    b, s, g = location // space, location % space, h // shared
    i = tl.arange(0, T)
    t = c * T + i
    index = c * (tl.num_programs(0).to(tl.int64) // chunks) + row
    rate, skip = tl.load(A_ptr + h), _parameter(D_ptr, h)
    rows = _rows(b, s, h, t, F, space, heads, REVERSE)
    raw = _load_dt(dt, bias_ptr, b, s, h, t, F, REVERSE)
    delta = _step(raw, t, F, SOFTPLUS)
    L, from_start, to_end = _decays(delta * rate, T)
    G = tl.zeros([T, T], tl.float32)
    for first_state in tl.range(0, N, STATES):
        n = first_state + tl.arange(0, STATES)
        Cs = _load(C, b, s, g, t, n, F, N, REVERSE)
        G += _dot(Cs, tl.trans(_load(B, b, s, g, t, n, F, N, REVERSE)), PRECISION)
    W = G * L * delta[None, :]
    dW, dD = tl.zeros([T, T], tl.float32), 0.0
    for first_channel in tl.range(0, P, CHANNELS):
        p = first_channel + tl.arange(0, CHANNELS)
        xs = _load(x, b, s, h, t, p, F, P, REVERSE)
        dy = _load_gradient(grad, z, b, s, h, t, p, F, P, REVERSE)
        dW += _dot(dy, tl.trans(xs), PRECISION)
        dD += tl.sum(tl.sum(dy * xs, axis=1), axis=0)
        dxs = _dot(tl.trans(W), dy, PRECISION) + skip * dy
        if exits_ptr is not None:
            for first_state in tl.range(0, N, STATES):
                n = first_state + tl.arange(0, STATES)
                Bs = _load(B, b, s, g, t, n, F, N, REVERSE) * (to_end * delta)[:, None]
                at, inside = _state(exits_ptr, index, n, p, N, P)
                dxs += _dot(Bs, tl.load(at, mask=inside, other=0.0))
        _store(dx_ptr, rows, t, p, F, P, dxs)
        if z is not None:
            y = _dot(W, xs, PRECISION) + skip * xs
            if entries_ptr is not None:
                for first_state in tl.range(0, N, STATES):
                    n = first_state + tl.arange(0, STATES)
                    Cs = _load(C, b, s, g, t, n, F, N, REVERSE) * from_start[:, None]
                    at, inside = _state(entries_ptr, index, n, p, N, P)
                    y += _dot(Cs, tl.load(at, mask=inside, other=0.0))
            slope = silu_gradient(_load(z, b, s, h, t, p, F, P, REVERSE))
            slope *= _load(grad, b, s, h, t, p, F, P, REVERSE)
            _store(dz_ptr, rows, t, p, F, P, slope * y)

    dW *= L
    pairs = dW * G
    ddelta = tl.sum(pairs, axis=0)
    # the decay of frame f is in the pairs i >= f > j
    pairs = tl.cumsum(pairs * delta[None, :], axis=0, reverse=True)
    dlog = tl.sum(tl.where(i[:, None] > i[None, :], pairs, 0.0), axis=1)
    dG = dW * delta[None, :]
    put, got, through = tl.zeros([T], tl.float32), tl.zeros([T], tl.float32), 0.0
    for first_state in tl.range(0, N, STATES):
        n = first_state + tl.arange(0, STATES)
        Bs = _load(B, b, s, g, t, n, F, N, REVERSE)
        Cs = _load(C, b, s, g, t, n, F, N, REVERSE)
        dBs, dCs = _dot(tl.trans(dG), Cs, PRECISION), _dot(dG, Bs, PRECISION)
        if exits_ptr is not None:
            # what the chunk's frames put in the state behind it
            of_put = tl.zeros([T, STATES], tl.float32)
            for first_channel in tl.range(0, P, CHANNELS):
                p = first_channel + tl.arange(0, CHANNELS)
                at, inside = _state(exits_ptr, index, n, p, N, P)
                dstate = tl.load(at, mask=inside, other=0.0)
                xs = _load(x, b, s, h, t, p, F, P, REVERSE)
                of_put += _dot(xs, tl.trans(dstate))
                if entries_ptr is not None:
                    at, inside = _state(entries_ptr, index, n, p, N, P)
                    entry = tl.load(at, mask=inside, other=0.0)
                    through += tl.sum(tl.sum(dstate * entry, axis=1), axis=0)
            of_put *= to_end[:, None]
            dBs += of_put * delta[:, None]
            put += tl.sum(of_put * Bs, axis=1)
        if entries_ptr is not None:
            # what the state before the chunk gave its outputs
            of_got = tl.zeros([T, STATES], tl.float32)
            for first_channel in tl.range(0, P, CHANNELS):
                p = first_channel + tl.arange(0, CHANNELS)
                at, inside = _state(entries_ptr, index, n, p, N, P)
                dy = _load_gradient(grad, z, b, s, h, t, p, F, P, REVERSE)
                of_got += _dot(dy, tl.trans(tl.load(at, mask=inside, other=0.0)))
            of_got *= from_start[:, None]
            dCs += of_got
            got += tl.sum(of_got * Cs, axis=1)
        _store(dB_ptr, rows, t, n, F, N, dBs)
        _store(dC_ptr, rows, t, n, F, N, dCs)
    ddelta += put
    dlog += tl.exp(tl.sum(delta * rate, axis=0)) * through
    dlog += tl.sum(tl.where(i[:, None] > i[None, :], (put * delta)[None, :], 0.0), axis=1)
    dlog += tl.sum(tl.where(i[:, None] >= i[None, :], got[:, None], 0.0), axis=0)
    draw = ddelta + rate * dlog
    if SOFTPLUS:
        draw = draw * sigmoid(raw)
    draw = tl.where(t < F, draw, 0.0)
    tl.store(ddt_ptr + rows, draw.to(ddt_ptr.dtype.element_ty), mask=t < F)
    tl.store(dA_ptr + index, tl.sum(delta * dlog, axis=0))
    if dD_ptr is not None:
        tl.store(dD_ptr + index, dD)
    if dbias_ptr is not None:
        tl.store(dbias_ptr + index, tl.sum(draw, axis=0))


def _array(tensor: Tensor | None) -> tuple[Any, ...] | None:
    """Return a pointer and the strides of all axes but the last."""
    return None if tensor is None else (tensor, *tensor.stride()[:-1])


def _sizes(x: Tensor, B: Tensor) -> tuple[int, ...]:
    _, frames, space, heads, width = x.shape
    return frames, space, heads, heads // B.shape[3], width, B.shape[4]


def _forward_tiles(x: Tensor, chunk_size: int | None) -> tuple[int, int, dict[str, int]]:
    """Return the channel tiles of a head, the chunks, and the constants of the forward kernels.

    A ``chunk_size`` above 16 asks for the longer chunk.
    """
    T = FRAMES if min(chunk_size or FRAMES, x.shape[1]) > FRAMES // 2 else FRAMES // 2
    channels = min(CHANNELS, max(16, triton.next_power_of_2(x.shape[4])))
    constants = {"T": T, "CHANNELS": channels, "STATES": STATES}
    return triton.cdiv(x.shape[4], channels), triton.cdiv(x.shape[1], T), constants


@operator("unianimate::ssd_scan_triton")
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
    tiles, chunks, constants = _forward_tiles(x, chunk_size)
    out, state = empty_outputs(x, B, return_final_state)
    between = state if return_final_state else None
    if between is None and (chunks > 1 or initial_state is not None):
        between = empty_outputs(x, B, True)[1]
    A, D, dt_bias, initial_state = map(contiguous, (A, D, dt_bias, initial_state))
    launch(
        *(forward_kernel, x.shape[0] * x.shape[2] * x.shape[3] * tiles, x),
        *(_array(x), _array(dt), A, _array(B), _array(C), D, _array(z), dt_bias),
        *(initial_state, between, out, *_sizes(x, B)),
        REVERSE=reverse,
        SOFTPLUS=dt_softplus,
        num_warps=WARPS,
        num_stages=1,
        **constants,
    )
    return out, state


@operator("unianimate::ssd_scan_triton_backward")
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
    batch, frames, space, heads, width = x.shape
    groups, d_state = B.shape[3:]
    chunks = triton.cdiv(frames, BACKWARD_FRAMES)
    found = empty_gradients(x, dt, B, D, z, dt_bias, initial_state)
    shares = A.new_empty(2, batch, frames, space, heads, d_state)
    partial = A.new_empty(3, chunks * batch * space, heads)  # of A, D and dt_bias
    small = (A, D, dt_bias, initial_state, grad_state)
    A, D, dt_bias, initial_state, grad_state = map(contiguous, small)
    grad = dense_last(grad)
    options = {"REVERSE": reverse, "SOFTPLUS": dt_softplus, "num_warps": WARPS, "num_stages": 1}

    def sweep(
        x: Tensor, B: Tensor, z: Tensor | None, start: Tensor | None, steps: int, adjoint: bool
    ) -> Tensor:
        states = A.new_empty(chunks + 1, batch, space, heads, width, d_state)
        tiles, _, constants = _forward_tiles(x, None)
        launch(
            *(sweep_kernel, batch * space * heads * tiles, x),
            *(_array(x), _array(dt), A, _array(B), _array(z), dt_bias, start, states),
            *(*_sizes(x, B), steps),
            **{**constants, **options, "T": BACKWARD_FRAMES, "ADJOINT": adjoint},
        )
        return states

    entered = chunks > 1 or initial_state is not None
    entries = exits = None
    if entered:
        entries = sweep(x, B, None, initial_state, chunks - 1, adjoint=False)
    if entered or grad_state is not None:
        steps = chunks if initial_state is not None else chunks - 1
        exits = sweep(grad, C, z, grad_state, steps, adjoint=True)
        if initial_state is not None:
            found = found._replace(initial_state=exits[0].clone())
    launch(
        *(backward_kernel, batch * space * heads * chunks, x),
        *(_array(x), _array(dt), A, _array(B), _array(C), D, _array(z), dt_bias, entries),
        *(None if exits is None else exits[1:], _array(grad)),
        *(found.x, found.dt, *shares, found.z if z is not None else None, partial[0]),
        *(None if D is None else partial[1], None if dt_bias is None else partial[2]),
        *_sizes(x, B),
        T=BACKWARD_FRAMES,
        CHANNELS=BACKWARD_CHANNELS,
        STATES=STATES,
        # what spills no registers: with states there are too many products for plain float32
        PRECISION="ieee" if exits is None else "tf32x3",
        **options,
    )
    found = found._replace(A=partial[0], D=partial[1], dt_bias=partial[2])
    dB, dC = (share.unflatten(3, (groups, heads // groups)).sum(4).to(x.dtype) for share in shares)
    return tuple(summed(found._replace(B=dB, C=dC)))  # type: ignore[return-value]


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
