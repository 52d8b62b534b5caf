"""The forward kernels of the Mamba-2 scan in Triton, and what they share with those of backward.

A float32 input takes `forward_kernel`: products by three passes of tensor cores ("tf32x3"), decays
by sums over the frames in between. A half one takes `single_kernel`, where the clip is one chunk
and no state is wanted, else `carrying_kernel`, which keeps the state in registers. There the
decays between two frames are the difference of two sums, in float32, and products have operands of
the dtype itself, or of tf32 for float16, which cannot hold every weight. A state that is asked for
comes in float32 and is as exact as for a float32 input; one that only leads to outputs of the half
dtype is made like them, accumulated in float32.

Clips of 2^k + 1 frames are common, because a reference frame stands before them. For a half input
the first frame scanned is then no part of a chunk: it leads, as a state of rank one, and costs a
product of a column and a row instead of a chunk of twice the length.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor, bfloat16, float32

from .._dense import contiguous
from .._triton_utils import launch, silu, softplus
from ._autograd import empty_outputs

# tiles of float32 inputs: as large as leaves no kernel a spill
FRAMES = 32  # of a chunk; shorter clips take the least that tl.dot takes, 16
CHANNELS = 64  # of a program
STATES = 16
WARPS = 4

# of half inputs
LONGEST = 64  # frames of a single chunk, but for the one that leads
SINGLE_WARPS = {16: 2, 32: 4, 64: 8}  # of a chunk so long
CARRYING_FRAMES = 32  # of one of several chunks; 64 spill, 32 leave room for three programs
EXACT_FRAMES = 16  # where the final state is asked for
CARRYING_WARPS = 4
CARRYING_STAGES = 2  # the next chunk is under way: three quarters of the time on an H200
WIDEST_CARRYING = 128  # states that fit in registers
PROGRAMS = 4096  # as many as fill a GPU; beyond them a program takes more heads

_EXACT = tl.constexpr("tf32x3")  # Triton 3.6 takes no str as the default of a constexpr
_LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def dot(a, b, PRECISION: tl.constexpr = _EXACT):
    """Multiply two float32 matrices, as exactly as float32 goes unless told otherwise."""
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def load_tile(array, b, s, h, t, c, F, WIDTH, REVERSE: tl.constexpr):
    """Read frames ``t`` in the order of the scan [frames, channels] as float32, zero outside."""
    return load_own(array, b, s, h, t, c, F, WIDTH, REVERSE).to(tl.float32)


@triton.jit
def load_own(array, b, s, h, t, c, F, WIDTH, REVERSE: tl.constexpr):
    """Read the same in the array's own dtype.

    ``array`` is (pointer, strides of batch, frame, location and head).
    """
    f = (F - 1 - t if REVERSE else t).to(tl.int64)
    rows = array[0] + b * array[1] + f * array[2] + s * array[3] + h * array[4]
    inside = (t < F)[:, None] & (c < WIDTH)[None, :]
    return tl.load(rows[:, None] + c[None, :], mask=inside, other=0.0)


@triton.jit
def store_own(array, b, s, h, t, c, F, WIDTH, REVERSE: tl.constexpr, value):
    """Write what `load_own` would read."""
    f = (F - 1 - t if REVERSE else t).to(tl.int64)
    rows = array[0] + b * array[1] + f * array[2] + s * array[3] + h * array[4]
    inside = (t < F)[:, None] & (c < WIDTH)[None, :]
    tl.store(rows[:, None] + c[None, :], value.to(array[0].dtype.element_ty), mask=inside)


@triton.jit
def rows_of(b, s, h, t, F, space, heads, REVERSE: tl.constexpr):
    """Return which row of a contiguous (B, F, S, H, width) each frame is."""
    f = (F - 1 - t if REVERSE else t).to(tl.int64)
    return ((b * F + f) * space + s) * heads + h


@triton.jit
def store_tile(ptr, rows, t, c, F, WIDTH, value):
    """Write [frames, channels] of a contiguous array in its dtype."""
    inside = (t < F)[:, None] & (c < WIDTH)[None, :]
    at = ptr + rows[:, None] * WIDTH + c[None, :]
    tl.store(at, value.to(ptr.dtype.element_ty), mask=inside)


@triton.jit
def load_dt(dt, bias_ptr, b, s, h, t, F, REVERSE: tl.constexpr):
    """Read dt + bias of the chunk's frames [frames]."""
    f = (F - 1 - t if REVERSE else t).to(tl.int64)
    at = dt[0] + b * dt[1] + f * dt[2] + s * dt[3] + h
    raw = tl.load(at, mask=t < F, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        raw += tl.load(bias_ptr + h)
    return raw


@triton.jit
def step_size(raw, t, F, SOFTPLUS: tl.constexpr):
    """Return delta [frames], zero beyond the clip: such a frame changes nothing."""
    if SOFTPLUS:
        raw = softplus(raw)
    return tl.where(t < F, raw, 0.0)


@triton.jit
def decays(log_decay, T: tl.constexpr):
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
def state_tile(ptr, index, n, p, N, P):
    """Return addresses [n, p] in state number ``index`` of (..., P, N), and which exist."""
    return ptr + index * P * N + p[None, :] * N + n[:, None], (n < N)[:, None] & (p < P)[None, :]


@triton.jit
def copy_state(
    from_ptr, to_ptr, offset, index, p, N, P, CHANNELS: tl.constexpr, STATES: tl.constexpr
):
    """Copy state ``index`` to ``offset + index``, or write zeros where there is none."""
    for first in tl.range(0, N, STATES):
        n = first + tl.arange(0, STATES)
        state = tl.zeros([STATES, CHANNELS], tl.float32)
        if from_ptr is not None:
            at, inside = state_tile(from_ptr, index, n, p, N, P)
            state = tl.load(at, mask=inside, other=0.0)
        at, inside = state_tile(to_ptr, offset + index, n, p, N, P)
        tl.store(at, state, mask=inside)


@triton.jit
def parameter(ptr, h):
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
    rate, skip = tl.load(A_ptr + h), parameter(D_ptr, h)
    if state_ptr is not None:
        copy_state(initial_ptr, state_ptr, 0, row, p, N, P, CHANNELS, STATES)
    for first in tl.range(0, F, T):
        t = first + tl.arange(0, T)
        delta = step_size(load_dt(dt, bias_ptr, b, s, h, t, F, REVERSE), t, F, SOFTPLUS)
        L, from_start, to_end = decays(delta * rate, T)
        xs = load_tile(x, b, s, h, t, p, F, P, REVERSE)
        scores = tl.zeros([T, T], tl.float32)
        y = skip * xs
        # a tile of the state may be read by other threads than wrote it
        tl.debug_barrier()
        for first_state in tl.range(0, N, STATES):
            n = first_state + tl.arange(0, STATES)
            Bs = load_tile(B, b, s, g, t, n, F, N, REVERSE)
            Cs = load_tile(C, b, s, g, t, n, F, N, REVERSE)
            scores += dot(Cs, tl.trans(Bs))
            if state_ptr is not None:
                at, inside = state_tile(state_ptr, row, n, p, N, P)
                state = tl.load(at, mask=inside, other=0.0)
                y += dot(Cs * from_start[:, None], state)
                update = dot(tl.trans(Bs * (to_end * delta)[:, None]), xs)
                whole = tl.exp(tl.sum(delta * rate, axis=0))
                tl.store(at, state * whole + update, mask=inside)
        y += dot(scores * L * delta[None, :], xs)
        if z is not None:
            y = y * silu(load_tile(z, b, s, h, t, p, F, P, REVERSE))
        store_tile(out_ptr, rows_of(b, s, h, t, F, space, heads, REVERSE), t, p, F, P, y)


@triton.jit
def _join(before, delta, later, next_delta):
    """Join two spans of frames: the sum over both, and the last delta."""
    return before + later, next_delta


@triton.jit
def _weights(scores, delta, rate, skip, T: tl.constexpr):
    """Return W [i, j] + skip on the diagonal, and the log2 of the decays up to every frame.

    ``scores`` need not be zero where j > i.
    """
    i = tl.arange(0, T)
    # delta goes along, else Triton computes softplus anew in the layout of columns, many a thread
    sums, delta = tl.associative_scan((delta * (rate * _LOG2E), delta), 0, _join)
    L = tl.exp2(tl.where(i[:, None] >= i[None, :], sums[:, None] - sums[None, :], float("-inf")))
    # where j > i the skip meets an L of zero
    skips = tl.where(i[:, None] <= i[None, :], skip, 0.0)
    return (scores * delta[None, :] + skips) * L, sums


@triton.jit
def _gate(z):
    """Return silu(z) as exactly as a half z needs; exp2 may overflow, to zero.

    A division and tl.exp would take more of them, for the sake of denormal numbers.
    """
    root = tl.rsqrt(1.0 + tl.exp2(z * -_LOG2E))
    return z * (root * root)


@triton.jit
def single_kernel(
    x, dt, A_ptr, B, C, D_ptr, z, bias_ptr, out_ptr,
    F, space, heads, shared, P, N, most,
    REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr, OPERAND: tl.constexpr, LEAD: tl.constexpr,
    T: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Scan one tile of channels of up to ``most`` heads of a group at one location, in one chunk.

    The products C . B are the group's and computed once. OPERAND is the dtype that weights are
    multiplied in. With LEAD the first frame stands before the chunk.
    """
    tiles, parts, groups = tl.cdiv(P, CHANNELS), tl.cdiv(shared, most), heads // shared
    p = tl.program_id(0) % tiles * CHANNELS + tl.arange(0, CHANNELS)
    part = tl.program_id(0) // tiles % parts
    row = tl.program_id(0) // tiles // parts
    b, s, g = row // groups // space, row // groups % space, row % groups
    b, s, g = b.to(tl.int64), s.to(tl.int64), g.to(tl.int64)
    i, ahead = tl.arange(0, T), tl.arange(0, 1)
    t = i + LEAD
    scores = tl.zeros([T, T], tl.float32)
    of_ahead, ahead_itself = tl.zeros([T], tl.float32), tl.zeros([1], tl.float32)
    for first_state in tl.range(0, N, STATES):
        n = first_state + tl.arange(0, STATES)
        Cs = load_own(C, b, s, g, t, n, F, N, REVERSE)
        scores += tl.dot(Cs, tl.trans(load_own(B, b, s, g, t, n, F, N, REVERSE)))
        if LEAD:
            first_B = load_tile(B, b, s, g, ahead, n, F, N, REVERSE)
            of_ahead += tl.sum(Cs.to(tl.float32) * first_B, axis=1)
            first_C = load_tile(C, b, s, g, ahead, n, F, N, REVERSE)
            ahead_itself += tl.sum(first_C * first_B, axis=1)
    rows = rows_of(b, s, 0, t, F, space, heads, REVERSE)
    row_ahead = rows_of(b, s, 0, ahead, F, space, heads, REVERSE)
    first_head = g * shared + part * most
    behind = first_head + tl.minimum(most, shared - part * most)
    for h in tl.range(first_head, behind, num_stages=STAGES):
        # all loads first: none moves up over the barriers of what follows
        xs = load_own(x, b, s, h, t, p, F, P, REVERSE)
        if z is not None:
            zs = load_own(z, b, s, h, t, p, F, P, REVERSE)
        step = load_dt(dt, bias_ptr, b, s, h, t, F, REVERSE)
        rate, skip = tl.load(A_ptr + h), parameter(D_ptr, h)
        if LEAD:
            first_x = load_tile(x, b, s, h, ahead, p, F, P, REVERSE)
            if z is not None:
                first_z = load_own(z, b, s, h, ahead, p, F, P, REVERSE)
            first_step = load_dt(dt, bias_ptr, b, s, h, ahead, F, REVERSE)
        W, sums = _weights(scores, step_size(step, t, F, SOFTPLUS), rate, skip, T)
        y = tl.dot(W.to(OPERAND), xs.to(OPERAND), input_precision="tf32")
        if LEAD:
            first_delta = step_size(first_step, ahead, F, SOFTPLUS)
            y += (of_ahead * tl.exp2(sums) * first_delta)[:, None] * first_x
            first_y = (ahead_itself * first_delta + skip)[:, None] * first_x
            if z is not None:
                first_y *= _gate(first_z.to(tl.float32))
            store_tile(out_ptr + h * P, row_ahead, ahead, p, F, P, first_y)
        if z is not None:
            y *= _gate(zs.to(tl.float32))
        store_tile(out_ptr + h * P, rows, t, p, F, P, y)


@triton.jit
def carrying_kernel(
    x, dt, A_ptr, B, C, D_ptr, z, bias_ptr, initial_ptr, final_ptr, out,
    F, space, heads, shared, P, N,
    REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr, OPERAND: tl.constexpr, LEAD: tl.constexpr,
    T: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Scan one tile of channels of one head of one location, the state [n, p] in registers.

    The state is as exact as float32 where ``final`` wants it, and else as its outputs need it.
    """
    tiles = tl.cdiv(P, CHANNELS)
    row = tl.program_id(0) // tiles
    location, h = row // heads, row % heads
    b, s, g = location // space, location % space, h // shared
    # only now: a division of 64 bits takes a hundred instructions
    row, b, s = row.to(tl.int64), b.to(tl.int64), s.to(tl.int64)
    g, h = g.to(tl.int64), h.to(tl.int64)
    p = tl.program_id(0) % tiles * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, STATES)
    rate, skip = tl.load(A_ptr + h), parameter(D_ptr, h)
    state = tl.zeros([STATES, CHANNELS], tl.float32)
    if initial_ptr is not None:
        at, inside = state_tile(initial_ptr, row, n, p, N, P)
        state = tl.load(at, mask=inside, other=0.0)
    if LEAD:
        ahead = tl.arange(0, 1)
        step = step_size(load_dt(dt, bias_ptr, b, s, h, ahead, F, REVERSE), ahead, F, SOFTPLUS)
        first_x = load_tile(x, b, s, h, ahead, p, F, P, REVERSE)
        first_B = load_tile(B, b, s, g, ahead, n, F, N, REVERSE)
        first_C = load_tile(C, b, s, g, ahead, n, F, N, REVERSE)
        first_y = (tl.sum(first_C * first_B, axis=1) * step + skip)[:, None] * first_x
        if initial_ptr is not None:
            state *= tl.exp(step * rate)[:, None]
            first_y += tl.sum(tl.trans(first_C) * state, axis=0)[None, :]
        state += tl.trans(first_B * step[:, None]) * first_x
        if z is not None:
            first_y *= _gate(load_tile(z, b, s, h, ahead, p, F, P, REVERSE))
        store_own(out, b, s, h, ahead, p, F, P, REVERSE, first_y)
    i = tl.arange(0, T)
    for first in tl.range(LEAD, F, T, num_stages=STAGES):
        t = first + i
        Bs = load_own(B, b, s, g, t, n, F, N, REVERSE)
        Cs = load_own(C, b, s, g, t, n, F, N, REVERSE)
        xs = load_own(x, b, s, h, t, p, F, P, REVERSE)
        delta = step_size(load_dt(dt, bias_ptr, b, s, h, t, F, REVERSE), t, F, SOFTPLUS)
        y = tl.dot(Cs.to(OPERAND), state.to(OPERAND), input_precision="tf32")
        if z is not None:  # not earlier, for the registers; not later, because it takes its time
            zs = load_own(z, b, s, h, t, p, F, P, REVERSE)
        # the skip is read again, else a matrix of it lives in registers as long as the loop
        W, sums = _weights(tl.dot(Cs, tl.trans(Bs)), delta, rate, parameter(D_ptr, h), T)
        y *= tl.exp2(sums)[:, None]
        y = tl.dot(W.to(OPERAND), xs.to(OPERAND), y, input_precision="tf32")
        if final_ptr is not None:
            # the decays from every frame to the chunk's end, summed over just the frames after it
            after = load_dt(dt, bias_ptr, b, s, h, t + 1, F, REVERSE)
            after = step_size(after, t + 1, F, SOFTPLUS)
            after = tl.cumsum(tl.where(i + 1 < T, after, 0.0), axis=0, reverse=True)
            weighted = Bs.to(tl.float32) * (tl.exp2(after * (rate * _LOG2E)) * delta)[:, None]
            whole = tl.exp(tl.sum(delta, axis=0) * rate)
            state = state * whole + dot(tl.trans(weighted), xs.to(tl.float32))
        else:
            whole = tl.sum(delta, axis=0) * (rate * _LOG2E)
            put = xs.to(tl.float32) * (tl.exp2(whole - sums) * delta)[:, None]
            state *= tl.exp2(whole)
            state = tl.dot(tl.trans(Bs).to(OPERAND), put.to(OPERAND), state, input_precision="tf32")
        if z is not None:
            y *= _gate(zs.to(tl.float32))
        store_own(out, b, s, h, t, p, F, P, REVERSE, y)
    if final_ptr is not None:
        at, inside = state_tile(final_ptr, row, n, p, N, P)
        tl.store(at, state, mask=inside)


def array_of(tensor: Tensor | None) -> tuple[Any, ...] | None:
    """Return a pointer and the strides of all axes but the last."""
    return None if tensor is None else (tensor, *tensor.stride()[:-1])


def sizes(x: Tensor, B: Tensor) -> tuple[int, ...]:
    """Return frames, locations, heads, heads that share B and C, channels of a head, states."""
    _, frames, space, heads, width = x.shape
    return frames, space, heads, heads // B.shape[3], width, B.shape[4]


class HalfOptions(NamedTuple):
    """How a half input is divided."""

    carries: bool  # a state from chunk to chunk, or in or out
    frames: int  # of a chunk
    channels: int  # of a program
    heads: int  # of a program, where no state is carried
    warps: int
    stages: int  # loads stand that many heads, or chunks, ahead of their use, less one


def half_options(
    x: Tensor, B: Tensor, states: tuple[bool, bool], chunk_size: int | None
) -> HalfOptions:
    """Choose; ``states`` says whether an initial one is given, and a final one asked for."""
    batch, frames, space, heads, width = x.shape
    groups, d_state = B.shape[3:]
    T = min(_tile(min(frames - 1, chunk_size or LONGEST)), LONGEST)
    given, asked = states
    if given or asked or frames > T + 1:
        T, channels = (EXACT_FRAMES, 32) if asked else (min(T, CARRYING_FRAMES), 64)
        if d_state > 64:
            channels //= 2
            T = T if x.dtype == bfloat16 else 16  # tiles of tf32 take twice the registers
        stages = 1 if asked else CARRYING_STAGES
        return HalfOptions(True, T, min(channels, _tile(width)), 1, CARRYING_WARPS, stages)
    shared = heads // groups
    parts = min(triton.cdiv(PROGRAMS, batch * space * groups), shared)
    channels = min(CHANNELS, _tile(width))
    return HalfOptions(False, T, channels, triton.cdiv(shared, parts), SINGLE_WARPS[T], 1)


def _tile(size: int) -> int:
    """Return a power of two that holds ``size``, and no less than tl.dot takes."""
    return max(16, triton.next_power_of_2(max(size, 1)))


def float_tiles(x: Tensor, chunk_size: int | None) -> tuple[int, int, dict[str, int]]:
    """Return the channel tiles of a head, the chunks, and the constants of `forward_kernel`.

    A ``chunk_size`` above 16 asks for the longer chunk.
    """
    T = FRAMES if min(chunk_size or FRAMES, x.shape[1]) > FRAMES // 2 else FRAMES // 2
    channels = min(CHANNELS, _tile(x.shape[4]))
    constants = {"T": T, "CHANNELS": channels, "STATES": STATES}
    return triton.cdiv(x.shape[4], channels), triton.cdiv(x.shape[1], T), constants


def half_tiles(x: Tensor, B: Tensor, options: HalfOptions) -> tuple[int, dict[str, Any]]:
    """Return the programs and the constants of the kernel that the options call for."""
    batch, frames, space, heads, width = x.shape
    groups, d_state = B.shape[3:]
    T, carries = options.frames, options.carries
    parts = heads if carries else groups * triton.cdiv(heads // groups, options.heads)
    programs = batch * space * parts * triton.cdiv(width, options.channels)
    return programs, {
        "OPERAND": tl.bfloat16 if x.dtype == bfloat16 else tl.float32,
        "LEAD": int(frames > T and frames % T == 1),
        "T": T,
        "CHANNELS": options.channels,
        "STATES": min(_tile(d_state), WIDEST_CARRYING if carries else CHANNELS),
        "STAGES": options.stages,
        "num_warps": options.warps,
        "num_stages": options.stages,
    }


def run_forward(
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
    out, final = empty_outputs(x, B, return_final_state)
    A, D, dt_bias, initial_state = map(contiguous, (A, D, dt_bias, initial_state))
    tensors = (array_of(x), array_of(dt), A, array_of(B), array_of(C), D, array_of(z), dt_bias)
    options = half_options(x, B, (initial_state is not None, return_final_state), chunk_size)
    flags = {"REVERSE": reverse, "SOFTPLUS": dt_softplus}
    if x.dtype == float32 or (options.carries and B.shape[4] > WIDEST_CARRYING):
        tiles, chunks, constants = float_tiles(x, chunk_size)
        state = final
        if not return_final_state:
            lies = chunks > 1 or initial_state is not None
            state = empty_outputs(x, B, True)[1] if lies else None
        states = (initial_state, state)
        launch(
            *(forward_kernel, x.shape[0] * x.shape[2] * x.shape[3] * tiles, x),
            *(*tensors, *states, out, *sizes(x, B)),
            **{**flags, **constants, "num_warps": WARPS, "num_stages": 1},
        )
        return out, final
    programs, constants = half_tiles(x, B, options)
    own = (initial_state, final if return_final_state else None) if options.carries else ()
    results = (array_of(out),) if options.carries else (out,)
    launch(
        *(carrying_kernel if options.carries else single_kernel, programs, x),
        *(*tensors, *own, *results, *sizes(x, B), *(() if options.carries else (options.heads,))),
        **{**flags, **constants},
    )
    return out, final
