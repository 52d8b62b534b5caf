"""Attention over frames in Triton.

A program owns a head at one location and a tile of frames: of queries in the forward pass, of
keys in the backward pass. Frames are padded to the tile on chip only. The forward pass takes one
softmax where all frames fit into one tile, and else goes over the keys with an online one; for a
gradient it saves the logarithm of the sum, from which the backward pass recomputes the
probabilities. Every gradient is summed by the program that owns it, so there are
no atomics and results are deterministic; where all frames fit into one tile, one backward kernel
makes all three gradients, else a second one makes that of q.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._dense import dense_last
from .._registration import operator
from .._triton_utils import launch

_LOG2_E = 1.4426950408889634


@triton.jit
def _place(program, SPACE, HEADS, TILES):
    """Return batch, location and head of a program (64 bits), and the number of its tile.

    A grid has fewer than 2^31 programs, so 32 bits do: a 64-bit division is a subroutine,
    and all loads wait for it.
    """
    place = program // TILES
    batch, place = place // (SPACE * HEADS), place % (SPACE * HEADS)
    location, head = place // HEADS, place % HEADS
    return batch.to(tl.int64), location.to(tl.int64), head.to(tl.int64), program % TILES


@triton.jit
def _head(ptr, strides, batch, location, head):
    """Move to the first frame of a head; strides are those of batch, frame, location and head."""
    return ptr + batch * strides[0] + location * strides[2] + head * strides[3]


@triton.jit
def _rows(
    ptr, frame_stride, first, FRAMES, DIM,
    TILE: tl.constexpr, WIDTH: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """Return the addresses of a tile of frames and which of them exist.

    ``FAR`` says that frames may lie 2^31 elements apart; 32 bits take a tenth off the program.
    """
    frame, d = first + tl.arange(0, TILE), tl.arange(0, WIDTH)
    inside = (frame < FRAMES)[:, None] & (d < DIM)[None, :]
    if FAR:
        frame = frame.to(tl.int64)
    return ptr + (frame[:, None] * frame_stride + d[None, :]), inside


@triton.jit
def _load(
    ptr, frame_stride, first, FRAMES, DIM,
    TILE: tl.constexpr, WIDTH: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """Load a tile of frames; what lies outside reads as zero."""
    address, inside = _rows(ptr, frame_stride, first, FRAMES, DIM, TILE, WIDTH, FAR)
    return tl.load(address, mask=inside, other=0.0)


@triton.jit
def _store(
    ptr, frame_stride, first, tile, FRAMES, DIM,
    TILE: tl.constexpr, WIDTH: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """Store a float32 tile of frames in the type of ``ptr``."""
    address, inside = _rows(ptr, frame_stride, first, FRAMES, DIM, TILE, WIDTH, FAR)
    tl.store(address, tile.to(ptr.dtype.element_ty), mask=inside)


@triton.jit
def _dot(a, b):
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def _scores(q, k, start, scale, FRAMES, TILE: tl.constexpr):
    """Return the scaled scores of a tile of keys from frame ``start`` on."""
    is_key = start + tl.arange(0, TILE) < FRAMES
    return tl.where(is_key[None, :], _dot(q, tl.trans(k)) * scale, float("-inf"))


@triton.jit
def _forward_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, q_strides, k_strides, v_strides, out_strides,
    scale, SPACE, HEADS, FRAMES, DIM, TILES,
    ONE_TILE: tl.constexpr, FAR: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write out and, where it is wanted, lse (base 2) of one tile of queries of one head.

    ``scale`` includes log2(e).
    """
    batch, location, head, tile = _place(tl.program_id(0), SPACE, HEADS, TILES)
    q_ptr = _head(q_ptr, q_strides, batch, location, head)
    k_ptr = _head(k_ptr, k_strides, batch, location, head)
    v_ptr = _head(v_ptr, v_strides, batch, location, head)
    out_ptr = _head(out_ptr, out_strides, batch, location, head)
    first = tile * TILE
    q = _load(q_ptr, q_strides[1], first, FRAMES, DIM, TILE, WIDTH, FAR)
    if ONE_TILE:
        k = _load(k_ptr, k_strides[1], 0, FRAMES, DIM, TILE, WIDTH, FAR)
        v = _load(v_ptr, v_strides[1], 0, FRAMES, DIM, TILE, WIDTH, FAR)
        scores = _scores(q, k, 0, scale, FRAMES, TILE)
        top = tl.max(scores, 1)
        p = tl.exp2(scores - top[:, None])
        total = tl.sum(p, 1)
        out = _dot(p.to(v.dtype), v)
    else:
        top = tl.full([TILE], float("-inf"), tl.float32)
        total = tl.zeros([TILE], tl.float32)
        out = tl.zeros([TILE, WIDTH], tl.float32)
        for start in range(0, FRAMES, TILE):
            k = _load(k_ptr, k_strides[1], start, FRAMES, DIM, TILE, WIDTH, FAR)
            v = _load(v_ptr, v_strides[1], start, FRAMES, DIM, TILE, WIDTH, FAR)
            scores = _scores(q, k, start, scale, FRAMES, TILE)
            new_top = tl.maximum(top, tl.max(scores, 1))
            kept = tl.exp2(top - new_top)
            p = tl.exp2(scores - new_top[:, None])
            total = total * kept + tl.sum(p, 1)
            out = out * kept[:, None] + _dot(p.to(v.dtype), v)
            top = new_top
    out *= (1.0 / total)[:, None]
    _store(out_ptr, out_strides[1], first, out, FRAMES, DIM, TILE, WIDTH, FAR)
    if lse_ptr is not None:
        frame = first + tl.arange(0, TILE)
        lse_ptr += ((batch * SPACE + location) * HEADS + head) * FRAMES
        tl.store(lse_ptr + frame, top + tl.log2(total), mask=frame < FRAMES)


@triton.jit
def _slopes(q, k, v, grad, out, lse, is_key, scale):
    """Return probabilities and the gradient of the scores, both (queries, keys), float32.

    Queries outside the clip have zero ``grad``, so their rows of both add nothing anywhere: p is
    finite there because lse reads as zero and q as zero.
    """
    p = tl.where(is_key[None, :], tl.exp2(_dot(q, tl.trans(k)) * scale - lse[:, None]), 0.0)
    mean = tl.sum(grad.to(tl.float32) * out.to(tl.float32), 1)
    return p, p * (_dot(grad, tl.trans(v)) - mean[:, None])


@triton.jit
def _backward_kernel(
    q_ptr, k_ptr, v_ptr, grad_ptr, out_ptr, lse_ptr, dq_ptr, dk_ptr, dv_ptr,
    q_strides, k_strides, v_strides, grad_strides, out_strides,
    scale, slope_scale, SPACE, HEADS, FRAMES, DIM, TILES,
    WITH_QUERIES: tl.constexpr, FAR: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write dk and dv of one tile of keys, and dq where it holds all frames."""
    batch, location, head, tile = _place(tl.program_id(0), SPACE, HEADS, TILES)
    q_ptr = _head(q_ptr, q_strides, batch, location, head)
    k_ptr = _head(k_ptr, k_strides, batch, location, head)
    v_ptr = _head(v_ptr, v_strides, batch, location, head)
    grad_ptr = _head(grad_ptr, grad_strides, batch, location, head)
    out_ptr = _head(out_ptr, out_strides, batch, location, head)
    dq_ptr = _head(dq_ptr, out_strides, batch, location, head)
    dk_ptr = _head(dk_ptr, out_strides, batch, location, head)
    dv_ptr = _head(dv_ptr, out_strides, batch, location, head)
    lse_ptr += ((batch * SPACE + location) * HEADS + head) * FRAMES
    first = tile * TILE
    is_key = first + tl.arange(0, TILE) < FRAMES
    k = _load(k_ptr, k_strides[1], first, FRAMES, DIM, TILE, WIDTH, FAR)
    v = _load(v_ptr, v_strides[1], first, FRAMES, DIM, TILE, WIDTH, FAR)
    dk = tl.zeros([TILE, WIDTH], tl.float32)
    dv = tl.zeros([TILE, WIDTH], tl.float32)
    for start in range(0, FRAMES, TILE):
        frame = start + tl.arange(0, TILE)
        q = _load(q_ptr, q_strides[1], start, FRAMES, DIM, TILE, WIDTH, FAR)
        grad = _load(grad_ptr, grad_strides[1], start, FRAMES, DIM, TILE, WIDTH, FAR)
        out = _load(out_ptr, out_strides[1], start, FRAMES, DIM, TILE, WIDTH, FAR)
        lse = tl.load(lse_ptr + frame, mask=frame < FRAMES, other=0.0)
        p, slopes = _slopes(q, k, v, grad, out, lse, is_key, scale)
        slopes = slopes.to(q.dtype)
        dv += _dot(tl.trans(p.to(grad.dtype)), grad)
        dk += _dot(tl.trans(slopes), q)
        if WITH_QUERIES:
            dq = _dot(slopes, k) * slope_scale
            _store(dq_ptr, out_strides[1], start, dq, FRAMES, DIM, TILE, WIDTH, FAR)
    _store(dk_ptr, out_strides[1], first, dk * slope_scale, FRAMES, DIM, TILE, WIDTH, FAR)
    _store(dv_ptr, out_strides[1], first, dv, FRAMES, DIM, TILE, WIDTH, FAR)


@triton.jit
def _backward_queries_kernel(
    q_ptr, k_ptr, v_ptr, grad_ptr, out_ptr, lse_ptr, dq_ptr,
    q_strides, k_strides, v_strides, grad_strides, out_strides,
    scale, slope_scale, SPACE, HEADS, FRAMES, DIM, TILES,
    FAR: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write dq of one tile of queries, summed over the tiles of keys."""
    batch, location, head, tile = _place(tl.program_id(0), SPACE, HEADS, TILES)
    q_ptr = _head(q_ptr, q_strides, batch, location, head)
    k_ptr = _head(k_ptr, k_strides, batch, location, head)
    v_ptr = _head(v_ptr, v_strides, batch, location, head)
    grad_ptr = _head(grad_ptr, grad_strides, batch, location, head)
    out_ptr = _head(out_ptr, out_strides, batch, location, head)
    dq_ptr = _head(dq_ptr, out_strides, batch, location, head)
    lse_ptr += ((batch * SPACE + location) * HEADS + head) * FRAMES
    first = tile * TILE
    frame = first + tl.arange(0, TILE)
    q = _load(q_ptr, q_strides[1], first, FRAMES, DIM, TILE, WIDTH, FAR)
    grad = _load(grad_ptr, grad_strides[1], first, FRAMES, DIM, TILE, WIDTH, FAR)
    out = _load(out_ptr, out_strides[1], first, FRAMES, DIM, TILE, WIDTH, FAR)
    lse = tl.load(lse_ptr + frame, mask=frame < FRAMES, other=0.0)
    dq = tl.zeros([TILE, WIDTH], tl.float32)
    for start in range(0, FRAMES, TILE):
        is_key = start + tl.arange(0, TILE) < FRAMES
        k = _load(k_ptr, k_strides[1], start, FRAMES, DIM, TILE, WIDTH, FAR)
        v = _load(v_ptr, v_strides[1], start, FRAMES, DIM, TILE, WIDTH, FAR)
        _, slopes = _slopes(q, k, v, grad, out, lse, is_key, scale)
        dq += _dot(slopes.to(k.dtype), k)
    _store(dq_ptr, out_strides[1], first, dq * slope_scale, FRAMES, DIM, TILE, WIDTH, FAR)


def backward_tile(q: Tensor) -> dict[str, int]:
    """Return the tile of frames, its width and the warps of a program.

    What compiles without spills: float32 has no tensor cores and keeps the operands of a product
    in registers, so it takes small tiles and many warps.
    """
    frames, dim = q.shape[1], q.shape[4]
    width = max(16, triton.next_power_of_2(dim))
    if q.dtype == torch.float32:
        return {"TILE": 16, "WIDTH": width, "num_warps": 4 if width <= 32 else 8}
    tile = 16 if frames <= 16 else 32
    return {"TILE": tile, "WIDTH": width, "num_warps": tile // 16}


def forward_tile(q: Tensor) -> dict[str, int]:
    """Return the same for the forward pass: at 17 and 33 frames what is fastest on an H200."""
    tile = backward_tile(q)
    if q.dtype == torch.float32:
        return tile
    if q.shape[1] <= 32:
        return tile | {"num_warps": 1}
    if q.shape[1] <= 64 or tile["WIDTH"] <= 64:
        return tile | {"TILE": 64, "num_warps": 4}
    return tile


def _far(strided: tuple[Tensor, ...], frames: int) -> bool:
    """Return whether the offset of a frame takes more than 32 bits."""
    return any(frames * t.stride(1) + t.shape[-1] >= 2**31 for t in strided)


def _launch(
    kernel: Any, q: Tensor, tile: dict[str, int], pointers: tuple[Tensor | None, ...],
    strided: tuple[Tensor, ...], scale: float, *slope_scale: float, **options: Any,
) -> None:  # fmt: skip
    batch, frames, space, heads, dim = q.shape
    tiles = triton.cdiv(frames, tile["TILE"])
    launch(
        kernel, batch * space * heads * tiles, q,
        *pointers, *(t.stride()[:4] for t in strided), scale * _LOG2_E, *slope_scale,
        space, heads, frames, dim, tiles, FAR=_far(strided, tiles * tile["TILE"]),
        **tile, **options,
    )  # fmt: skip


@operator("unianimate::temporal_attention_triton")
def _forward(
    q: Tensor, k: Tensor, v: Tensor, scale: float, with_lse: bool
) -> tuple[Tensor, Tensor]:
    out, lse = q.new_empty(q.shape), _new_lse(q, with_lse)
    strided, tile = (q, k, v, out), forward_tile(q)
    _launch(
        _forward_kernel, q, tile, (q, k, v, out, lse if with_lse else None), strided, scale,
        ONE_TILE=q.shape[1] <= tile["TILE"],
    )  # fmt: skip
    return out, lse


def _new_lse(q: Tensor, wanted: bool) -> Tensor:
    batch, frames, space, heads, _ = q.shape
    shape = (batch, space, heads, frames) if wanted else (0,)
    return q.new_empty(shape, dtype=torch.float32)


@operator("unianimate::temporal_attention_triton_backward")
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    grad = dense_last(grad)
    dq, dk, dv = (q.new_empty(q.shape) for _ in range(3))
    inputs, strided = (q, k, v, grad, out, lse), (q, k, v, grad, out)
    tile = backward_tile(q)
    one_tile = q.shape[1] <= tile["TILE"]
    _launch(
        _backward_kernel, q, tile, (*inputs, dq, dk, dv), strided, scale, scale,
        WITH_QUERIES=one_tile,
    )  # fmt: skip
    if not one_tile:
        _launch(_backward_queries_kernel, q, tile, (*inputs, dq), strided, scale, scale)
    return dq, dk, dv


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, scale: float, with_lse: bool) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), _new_lse(q, with_lse)


@_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape)


def _setup_context(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float, bool], output: tuple[Tensor, Tensor]
) -> None:
    *tensors, ctx.scale, ctx.with_lse = inputs
    ctx.save_for_backward(*tensors, *output)


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse = ctx.saved_tensors
    if not ctx.with_lse:
        # a subclass may turn gradients on below a call that was made with them off
        out, lse = _forward(q, k, v, ctx.scale, True)
    return *_backward(grad, q, k, v, out, lse, ctx.scale), None, None


_forward.register_autograd(_gradients, setup_context=_setup_context)


def forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return (B, F, S, heads, head_dim); only where a gradient may be wanted lse is written."""
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v))
    return _forward(q, k, v, scale, wanted)[0]
