"""The Mamba-2 scan in Triton, registered with torch.library: `triton_forward` and its gradient.

A program computes one chunk of frames of one head of one location (arXiv 2405.21060, section 6):
inside it a product with the masked matrix W[i, j] = (C[i] . B[j]) L[i, j] delta[j], between chunks
a state. Products are float32, most by three passes of tensor cores ("tf32x3"). States lie in global
memory and are walked in small tiles, which stay in L1 and L2: [N, P] in registers spills.

Backward saves nothing in forward. One sweep finds the state before each chunk, another the gradient
of the state behind each; then all chunks are independent. dB and dC of a group are written a head
at a time and summed by torch in a fixed order, and so are those of A, D and dt_bias over the
locations and chunks. There are no atomics.
"""

import triton
import triton.language as tl
from torch import Tensor

from .._dense import contiguous, dense_last
from .._registration import operator
from .._triton_utils import launch, sigmoid, silu, silu_gradient
from ._autograd import empty_gradients, register, summed
from .triton_forward import (
    STATES,
    WARPS,
    array_of,
    copy_state,
    decays,
    dot,
    float_tiles,
    load_dt,
    load_tile,
    parameter,
    rows_of,
    run_forward,
    sizes,
    state_tile,
    step_size,
    store_tile,
)

# tiles: as large as leaves no kernel a spill
BACKWARD_FRAMES = 16
BACKWARD_CHANNELS = 32


@triton.jit
def _load_gradient(grad, z, b, s, h, t, p, F, P, REVERSE: tl.constexpr):
    """Read the gradient of the ungated output [frames, channels]."""
    dy = load_tile(grad, b, s, h, t, p, F, P, REVERSE)
    if z is not None:
        dy = dy * silu(load_tile(z, b, s, h, t, p, F, P, REVERSE))
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
    copy_state(start_ptr, states_ptr, offset, row, p, N, P, CHANNELS, STATES)
    for step in tl.range(0, steps):
        t = (chunks - 1 - step if ADJOINT else step) * T + tl.arange(0, T)
        delta = step_size(load_dt(dt, bias_ptr, b, s, h, t, F, REVERSE), t, F, SOFTPLUS)
        _, from_start, to_end = decays(delta * rate, T)
        weight = from_start if ADJOINT else to_end * delta
        xs = _load_gradient(x, z, b, s, h, t, p, F, P, REVERSE)
        whole = tl.exp(tl.sum(delta * rate, axis=0))
        after = offset - rows if ADJOINT else offset + rows
        # tiles of the state may be read by other threads than wrote them
        tl.debug_barrier()
        for first_state in tl.range(0, N, STATES):
            n = first_state + tl.arange(0, STATES)
            weighted = load_tile(B, b, s, g, t, n, F, N, REVERSE) * weight[:, None]
            at, inside = state_tile(states_ptr, offset + row, n, p, N, P)
            state = tl.load(at, mask=inside, other=0.0) * whole + dot(tl.trans(weighted), xs)
            at, inside = state_tile(states_ptr, after + row, n, p, N, P)
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
    rate, skip = tl.load(A_ptr + h), parameter(D_ptr, h)
    rows = rows_of(b, s, h, t, F, space, heads, REVERSE)
    raw = load_dt(dt, bias_ptr, b, s, h, t, F, REVERSE)
    delta = step_size(raw, t, F, SOFTPLUS)
    L, from_start, to_end = decays(delta * rate, T)
    G = tl.zeros([T, T], tl.float32)
    for first_state in tl.range(0, N, STATES):
        n = first_state + tl.arange(0, STATES)
        Cs = load_tile(C, b, s, g, t, n, F, N, REVERSE)
        G += dot(Cs, tl.trans(load_tile(B, b, s, g, t, n, F, N, REVERSE)), PRECISION)
    W = G * L * delta[None, :]
    dW, dD = tl.zeros([T, T], tl.float32), 0.0
    for first_channel in tl.range(0, P, CHANNELS):
        p = first_channel + tl.arange(0, CHANNELS)
        xs = load_tile(x, b, s, h, t, p, F, P, REVERSE)
        dy = _load_gradient(grad, z, b, s, h, t, p, F, P, REVERSE)
        dW += dot(dy, tl.trans(xs), PRECISION)
        dD += tl.sum(tl.sum(dy * xs, axis=1), axis=0)
        dxs = dot(tl.trans(W), dy, PRECISION) + skip * dy
        if exits_ptr is not None:
            for first_state in tl.range(0, N, STATES):
                n = first_state + tl.arange(0, STATES)
                Bs = load_tile(B, b, s, g, t, n, F, N, REVERSE) * (to_end * delta)[:, None]
                at, inside = state_tile(exits_ptr, index, n, p, N, P)
                dxs += dot(Bs, tl.load(at, mask=inside, other=0.0))
        store_tile(dx_ptr, rows, t, p, F, P, dxs)
        if z is not None:
            y = dot(W, xs, PRECISION) + skip * xs
            if entries_ptr is not None:
                for first_state in tl.range(0, N, STATES):
                    n = first_state + tl.arange(0, STATES)
                    Cs = load_tile(C, b, s, g, t, n, F, N, REVERSE) * from_start[:, None]
                    at, inside = state_tile(entries_ptr, index, n, p, N, P)
                    y += dot(Cs, tl.load(at, mask=inside, other=0.0))
            slope = silu_gradient(load_tile(z, b, s, h, t, p, F, P, REVERSE))
            slope *= load_tile(grad, b, s, h, t, p, F, P, REVERSE)
            store_tile(dz_ptr, rows, t, p, F, P, slope * y)

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
        Bs = load_tile(B, b, s, g, t, n, F, N, REVERSE)
        Cs = load_tile(C, b, s, g, t, n, F, N, REVERSE)
        dBs, dCs = dot(tl.trans(dG), Cs, PRECISION), dot(dG, Bs, PRECISION)
        if exits_ptr is not None:
            # what the chunk's frames put in the state behind it
            of_put = tl.zeros([T, STATES], tl.float32)
            for first_channel in tl.range(0, P, CHANNELS):
                p = first_channel + tl.arange(0, CHANNELS)
                at, inside = state_tile(exits_ptr, index, n, p, N, P)
                dstate = tl.load(at, mask=inside, other=0.0)
                xs = load_tile(x, b, s, h, t, p, F, P, REVERSE)
                of_put += dot(xs, tl.trans(dstate))
                if entries_ptr is not None:
                    at, inside = state_tile(entries_ptr, index, n, p, N, P)
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
                at, inside = state_tile(entries_ptr, index, n, p, N, P)
                dy = _load_gradient(grad, z, b, s, h, t, p, F, P, REVERSE)
                of_got += dot(dy, tl.trans(tl.load(at, mask=inside, other=0.0)))
            of_got *= from_start[:, None]
            dCs += of_got
            got += tl.sum(of_got * Cs, axis=1)
        store_tile(dB_ptr, rows, t, n, F, N, dBs)
        store_tile(dC_ptr, rows, t, n, F, N, dCs)
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
    return run_forward(
        *(x, dt, A, B, C, D, z, dt_bias),
        *(dt_softplus, reverse, chunk_size, initial_state, return_final_state),
    )


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
        tiles, _, constants = float_tiles(x, None)
        launch(
            *(sweep_kernel, batch * space * heads * tiles, x),
            *(array_of(x), array_of(dt), A, array_of(B), array_of(z), dt_bias, start, states),
            *(*sizes(x, B), steps),
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
        *(array_of(x), array_of(dt), A, array_of(B), array_of(C), D, array_of(z), dt_bias, entries),
        *(None if exits is None else exits[1:], array_of(grad)),
        *(found.x, found.dt, *shares, found.z if z is not None else None, partial[0]),
        *(None if D is None else partial[1], None if dt_bias is None else partial[2]),
        *sizes(x, B),
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
