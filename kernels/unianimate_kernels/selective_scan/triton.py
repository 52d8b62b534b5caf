"""The selective scan in Triton, registered with torch.library.

A program of one warp scans a tile of channels of one location. Its states are a tuple of vectors
over the channels, so that a thread owns all states of its channels and the loop over the frames
needs neither shuffles nor barriers. Frames are visited one after the other; their number is an
ordinary argument, so no length compiles anything anew.

Backward saves nothing in forward. A program replays a chunk of frames from the state that entered
it, keeps its states in scratch memory of its own, and walks the chunk backwards; the states that
enter the chunks come from one sweep before, which a clip of one chunk does not need. It does so for
a run of locations and sums the parameters' gradients over them; those sums, and the sums over
channel tiles of dB and dC, are added up by torch in a fixed order. There are no atomics.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from .._dense import contiguous, dense_last
from .._registration import operator
from .._triton_utils import launch, sigmoid, silu, silu_gradient, softplus
from ._autograd import empty_like, empty_outputs, register

_CHUNK = 32  # frames replayed at once
_PROGRAMS = 1024  # of a backward launch, about: fills a GPU, and bounds the scratch memory


@triton.jit
def _row(array, b, f, s):
    """Return where a row of (array, strides of b, f and s) begins."""
    return array[0] + b * array[1] + f * array[2] + s * array[3]


@triton.jit
def _load(array, b, f, s, d, mask):
    """Read a row of D values as float32."""
    return tl.load(_row(array, b, f, s) + d, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _load_scalars(array, b, f, s, N: tl.constexpr):
    """Read a row of N values, the same for all channels, as a tuple of float32."""
    row = _row(array, b, f, s)
    values = ()
    for n in tl.static_range(N):
        values = values + (tl.load(row + n).to(tl.float32),)
    return values


@triton.jit
def _load_states(ptr, start, stride, d, mask, N: tl.constexpr):
    """Read N vectors at ``ptr + start + n * stride + d``; zeros where there is no state."""
    states = ()
    for n in tl.static_range(N):
        if ptr is None:
            states = states + (tl.zeros(d.shape, tl.float32),)
        else:
            states = states + (tl.load(ptr + start + d + n * stride, mask=mask, other=0.0),)
    return states


@triton.jit
def _store_states(ptr, start, stride, d, mask, states, N: tl.constexpr):
    """Write N vectors at ``ptr + start + n * stride + d``."""
    for n in tl.static_range(N):
        tl.store(ptr + start + d + n * stride, states[n], mask=mask)


@triton.jit
def _store(ptr, row, width, d, mask, value):
    """Write a row of a contiguous array in the dtype of the array."""
    tl.store(ptr + row * width + d, value.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def _load_rates(A_ptr, d, D, N: tl.constexpr, GEOMETRIC: tl.constexpr):
    """Read the decay rates as a tuple of vectors: one if geometric, else N."""
    rates = ()
    for n in tl.static_range(1 if GEOMETRIC else N):
        rates = rates + (tl.load(A_ptr + n * D + d, mask=d < D, other=0.0),)
    return rates


@triton.jit
def _decays(step, rates, N: tl.constexpr, GEOMETRIC: tl.constexpr):
    """Return exp(step * rate) of all states; geometric ones are the powers of the first."""
    first = tl.exp(step * rates[0])
    last = first
    decays = (first,)
    for n in tl.static_range(1, N):
        last = last * first if GEOMETRIC else tl.exp(step * rates[n])
        decays = decays + (last,)
    return decays


@triton.jit
def _advance(states, decays, update, Bs, N: tl.constexpr):
    """Return the states one frame later: decays * states + update * Bs."""
    later = ()
    for n in tl.static_range(N):
        later = later + (decays[n] * states[n] + update * Bs[n],)
    return later


@triton.jit
def _step(dt, SOFTPLUS: tl.constexpr):
    if SOFTPLUS:
        dt = softplus(dt)
    return dt


@triton.jit
def _frame(t, F, REVERSE: tl.constexpr):
    """Return the frame that is scanned as number t, as a 64-bit index."""
    if REVERSE:
        t = F - 1 - t
    return tl.cast(t, tl.int64)


@triton.jit
def _load_vector(ptr, d, D):
    """Read a parameter (D,); zeros where it is absent."""
    value = tl.zeros(d.shape, tl.float32)
    if ptr is not None:  # Triton 3.6 compiles what stands behind a `return`, too
        value = tl.load(ptr + d, mask=d < D, other=0.0)
    return value


@triton.jit
def sweep(
    x, dt, A_ptr, B, C, D_ptr, bias_ptr, initial_ptr, final_ptr, addend_ptr, z, out_ptr,
    location, tile, F, S, D,
    N: tl.constexpr, REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr, GEOMETRIC: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Scan one tile of channels of one location over all frames.

    Adds ``addend`` (B, F, S, D), which the other direction left, before the gate.
    """
    b, s = location // S, location % S
    d = tile * CHANNELS + tl.arange(0, CHANNELS)
    there = d < D
    rates = _load_rates(A_ptr, d, D, N, GEOMETRIC)
    skip, bias = _load_vector(D_ptr, d, D), _load_vector(bias_ptr, d, D)
    states = _load_states(initial_ptr, location * D * N, 1, d * N, there, N)
    for t in tl.range(0, F):
        f = _frame(t, F, REVERSE)
        xs = _load(x, b, f, s, d, there)
        step = _step(_load(dt, b, f, s, d, there) + bias, SOFTPLUS)
        Bs, Cs = _load_scalars(B, b, f, s, N), _load_scalars(C, b, f, s, N)
        states = _advance(states, _decays(step, rates, N, GEOMETRIC), step * xs, Bs, N)
        y = skip * xs
        for n in tl.static_range(N):
            y += states[n] * Cs[n]
        row = (b * F + f) * S + s
        if addend_ptr is not None:
            y += tl.load(addend_ptr + row * D + d, mask=there, other=0.0)
        if z is not None:
            y = y * silu(_load(z, b, f, s, d, there))
        _store(out_ptr, row, D, d, there, y)
    if final_ptr is not None:
        _store_states(final_ptr, location * D * N, 1, d * N, there, states, N)


@triton.jit(do_not_specialize=["F"])
def forward_kernel(
    x, dt, A_ptr, B, C, D_ptr, bias_ptr, initial_ptr, final_ptr, z, out_ptr, F, S, D, tiles,
    N: tl.constexpr, REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr, GEOMETRIC: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Program p scans channel tile ``p % tiles`` of location ``p // tiles``."""
    location, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    sweep(
        x, dt, A_ptr, B, C, D_ptr, bias_ptr, initial_ptr, final_ptr, None, z, out_ptr,
        location, tile, F, S, D, N, REVERSE, SOFTPLUS, GEOMETRIC, CHANNELS,
    )  # fmt: skip


@triton.jit(do_not_specialize=["F", "locations", "run", "chunk", "chunks"])
def backward_kernel(
    grad_out, grad_final_ptr, x, dt, A_ptr, B, C, D_ptr, bias_ptr, z, initial_ptr,
    dx_ptr, ddt_ptr, dz_ptr, dinitial_ptr, dA_ptr, dB_ptr, dC_ptr, dD_ptr, dbias_ptr,
    dx_addend_ptr, ddt_addend_ptr, dz_addend_ptr, scratch_ptr,
    F, S, D, tiles, locations, run, chunk, chunks,
    N: tl.constexpr, REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr, GEOMETRIC: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Program p takes channel tile ``p % tiles`` of ``run`` locations from ``p // tiles * run``.

    It writes row ``p // tiles`` of dA, dD and dbias, and plane ``p % tiles`` of dB and dC, whose
    sums are the gradients. ``scratch`` holds chunks + chunk states for every program.
    """
    group, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    own = tl.arange(0, CHANNELS)
    d = tile * CHANNELS + own
    there, everywhere = d < D, own < CHANNELS
    index = tl.arange(0, triton.next_power_of_2(N))
    rates = _load_rates(A_ptr, d, D, N, GEOMETRIC)
    skip, bias = _load_vector(D_ptr, d, D), _load_vector(bias_ptr, d, D)
    entering = scratch_ptr + tl.program_id(0).to(tl.int64) * (chunks + chunk) * N * CHANNELS
    replayed = entering + chunks * N * CHANNELS
    dA = _load_states(None, 0, 0, own, everywhere, 1 if GEOMETRIC else N)
    dD, dbias = tl.zeros_like(skip), tl.zeros_like(skip)
    for location in tl.range(group * run, tl.minimum((group + 1) * run, locations)):
        b, s = location // S, location % S
        states = _load_states(initial_ptr, location * D * N, 1, d * N, there, N)
        _store_states(entering, 0, CHANNELS, own, everywhere, states, N)
        for t in tl.range(0, (chunks - 1) * chunk):
            f = _frame(t, F, REVERSE)
            step = _step(_load(dt, b, f, s, d, there) + bias, SOFTPLUS)
            update = step * _load(x, b, f, s, d, there)
            decays, Bs = _decays(step, rates, N, GEOMETRIC), _load_scalars(B, b, f, s, N)
            states = _advance(states, decays, update, Bs, N)
            if (t + 1) % chunk == 0:
                at = (t + 1) // chunk * (N * CHANNELS)
                _store_states(entering, at, CHANNELS, own, everywhere, states, N)
        dstates = _load_states(grad_final_ptr, location * D * N, 1, d * N, there, N)
        for behind in tl.range(0, chunks):
            entered = chunks - 1 - behind
            first = entered * chunk
            length = tl.minimum(chunk, F - first)
            tl.debug_barrier()  # scratch may be read by other threads than wrote it
            states = _load_states(entering, entered * (N * CHANNELS), CHANNELS, own, everywhere, N)
            for i in tl.range(0, length):
                f = _frame(first + i, F, REVERSE)
                at = i * (N * CHANNELS)
                _store_states(replayed, at, CHANNELS, own, everywhere, states, N)
                xs = _load(x, b, f, s, d, there)
                step = _step(_load(dt, b, f, s, d, there) + bias, SOFTPLUS)
                decays, Bs = _decays(step, rates, N, GEOMETRIC), _load_scalars(B, b, f, s, N)
                states = _advance(states, decays, step * xs, Bs, N)
                if z is not None:
                    y, Cs = skip * xs, _load_scalars(C, b, f, s, N)
                    for n in tl.static_range(N):
                        y += states[n] * Cs[n]
                    at = ((b * F + f) * S + s) * D + d
                    dz = y * silu_gradient(_load(z, b, f, s, d, there))
                    dz = dz * _load(grad_out, b, f, s, d, there)
                    if dz_addend_ptr is not None:
                        dz += tl.load(dz_addend_ptr + at, mask=there, other=0.0)
                    tl.store(dz_ptr + at, dz.to(dz_ptr.dtype.element_ty), mask=there)
            tl.debug_barrier()
            for i in tl.range(0, length):
                f = _frame(first + length - 1 - i, F, REVERSE)
                row = (b * F + f) * S + s
                plane = tile * locations * F + row
                xs = _load(x, b, f, s, d, there)
                raw = _load(dt, b, f, s, d, there) + bias
                step = _step(raw, SOFTPLUS)
                update = step * xs
                dy = _load(grad_out, b, f, s, d, there)
                if z is not None:
                    dy = dy * silu(_load(z, b, f, s, d, there))
                decays = _decays(step, rates, N, GEOMETRIC)
                B_row, C_row = _row(B, b, f, s), _row(C, b, f, s)
                at = replayed + (length - 1 - i) * (N * CHANNELS) + own
                dupdate, drate = tl.zeros_like(xs), tl.zeros_like(xs)
                dB, dC = tl.zeros(index.shape, tl.float32), tl.zeros(index.shape, tl.float32)
                earlier, sums = (), ()
                for n in tl.static_range(N):
                    to_state = tl.load(B_row + n).to(tl.float32)
                    from_state = tl.load(C_row + n).to(tl.float32)
                    kept = decays[n] * tl.load(at + n * CHANNELS)
                    state = kept + update * to_state
                    dstate = dstates[n] + dy * from_state
                    dC = tl.where(index == n, tl.sum(dy * state, axis=0), dC)
                    dB = tl.where(index == n, tl.sum(update * dstate, axis=0), dB)
                    dupdate += dstate * to_state
                    through = dstate * kept
                    if GEOMETRIC:
                        drate += through * (n + 1)
                    else:
                        drate += through * rates[n]
                        sums = sums + (dA[n] + step * through,)
                    earlier = earlier + (dstate * decays[n],)
                _store(dB_ptr, plane, N, index, index < N, dB)
                _store(dC_ptr, plane, N, index, index < N, dC)
                dstates = earlier
                if GEOMETRIC:
                    sums = (dA[0] + step * drate,)
                    drate = drate * rates[0]
                dA = sums
                dstep = dupdate * xs + drate
                if SOFTPLUS:
                    dstep = dstep * sigmoid(raw)
                dx = dupdate * step + dy * skip
                dD += dy * xs
                dbias += dstep
                if dx_addend_ptr is not None:
                    dx += tl.load(dx_addend_ptr + row * D + d, mask=there, other=0.0)
                _store(dx_ptr, row, D, d, there, dx)
                if ddt_addend_ptr is not None:
                    dstep += tl.load(ddt_addend_ptr + row * D + d, mask=there, other=0.0)
                _store(ddt_ptr, row, D, d, there, dstep)
        if dinitial_ptr is not None:
            _store_states(dinitial_ptr, location * D * N, 1, d * N, there, dstates, N)
    if GEOMETRIC:
        _store(dA_ptr, group, D, d, there, dA[0])
    else:
        _store_states(dA_ptr, group * D * N, 1, d * N, there, dA, N)
    if dD_ptr is not None:
        _store(dD_ptr, group, D, d, there, dD)
    if dbias_ptr is not None:
        _store(dbias_ptr, group, D, d, there, dbias)


class Direction(NamedTuple):
    """What one direction of time reads; the parameters are contiguous, free A is (N, D)."""

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    dt_bias: Tensor | None

    @classmethod
    def of(
        cls,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        dt_bias: Tensor | None,
    ) -> "Direction":
        """Lay the parameters out for the kernels: small copies, where they are needed at all."""
        # neighbouring threads read neighbouring channels
        rates = A.t().contiguous() if A.dim() == 2 else A.contiguous()
        return cls(x, dt, rates, B, C, contiguous(D), contiguous(dt_bias))

    def arguments(self) -> tuple[Any, ...]:
        """Return x, dt, A, B, C, D and dt_bias as the kernels take them."""
        x, dt, A, B, C, D, dt_bias = self
        return (strided(x), strided(dt), A, strided(B), strided(C), D, dt_bias)


def strided(tensor: Tensor | None) -> tuple[Any, ...] | None:
    """Return an activation and its strides of b, f and s as the kernels take them."""
    return None if tensor is None else (tensor, *tensor.stride()[:3])


def channels(d_state: int, states: int) -> int:
    """Return the channels of a program of 32 threads that each hold ``states`` states or fewer."""
    a_thread = max(1, min(4, states // d_state))
    return 32 * (1 << (a_thread.bit_length() - 1))


# how many states a thread can hold beside their rates, and beside their gradients as well
FORWARD_STATES = 64
BACKWARD_STATES = 32


class Addends(NamedTuple):
    """What the other direction left for this one to add to: float32, or None."""

    x: Tensor | None = None
    dt: Tensor | None = None
    z: Tensor | None = None


def scan_backward(
    direction: Direction,
    z: Tensor | None,
    grad_out: Tensor,
    grad_final_state: Tensor | None,
    initial_state: Tensor | None,
    outputs: tuple[Tensor | None, ...],
    addends: Addends,
    dt_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Write gradients of x, dt, z and the state into ``outputs``; return those of A, B, C, D, bias.

    The returned ones are float32 parts whose sums over the first axis are the gradients.
    """
    x, _, A, B, _, D, dt_bias = direction
    (batch, frames, space, width), d_state = x.shape, B.shape[3]
    tile = channels(d_state, BACKWARD_STATES)
    locations, tiles = batch * space, triton.cdiv(width, tile)
    run = triton.cdiv(locations * tiles, _PROGRAMS)
    groups = triton.cdiv(locations, run)
    chunks = triton.cdiv(frames, _CHUNK)
    chunk = triton.cdiv(frames, chunks)
    scratch = A.new_empty(groups * tiles, chunks + chunk, d_state, tile)
    dA = A.new_empty((groups, width, d_state) if A.dim() == 2 else (groups, width))
    dB, dC = (A.new_empty(tiles, *B.shape) for _ in range(2))
    dD, dbias = (None if p is None else A.new_empty(groups, width) for p in (D, dt_bias))
    launch(
        backward_kernel, groups * tiles, x,
        strided(grad_out), grad_final_state, *direction.arguments(), strided(z), initial_state,
        *outputs, dA, dB, dC, dD, dbias, *addends, scratch,
        frames, space, width, tiles, locations, run, chunk, chunks,
        d_state, reverse, dt_softplus, A.dim() == 1, tile, num_warps=1,
    )  # fmt: skip
    absent = A.new_empty(1, 0)
    return dA, dB, dC, absent if dD is None else dD, absent if dbias is None else dbias


@operator("unianimate::selective_scan_triton")
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
    _, frames, space, width = x.shape
    tile = channels(B.shape[3], FORWARD_STATES)
    tiles = triton.cdiv(width, tile)
    launch(
        forward_kernel, x.shape[0] * space * tiles, x,
        *Direction.of(x, dt, A, B, C, D, dt_bias).arguments(), contiguous(initial_state),
        final_state if return_final_state else None, strided(z), out, frames, space, width, tiles,
        B.shape[3], reverse, dt_softplus, A.dim() == 1, tile, num_warps=1,
    )  # fmt: skip
    return out, final_state


_NineTensors = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]  # of x, dt, A, B, C, D, z, dt_bias, initial_state


@operator("unianimate::selective_scan_triton_backward")
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
    dx, ddt, dz, dinitial = empty_like(x, x, dt, z, initial_state)
    parts = scan_backward(
        Direction.of(x, dt, A, B, C, D, dt_bias),
        z,
        dense_last(grad_out),
        contiguous(grad_final_state),
        contiguous(initial_state),
        (dx, ddt, dz, dinitial if initial_state is not None else None),
        Addends(),
        dt_softplus,
        reverse,
    )
    dA, dB, dC, dD, dbias = (part.sum(0) for part in parts)
    return dx, ddt, dA, dB.to(B.dtype), dC.to(C.dtype), dD, dz, dbias, dinitial


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
