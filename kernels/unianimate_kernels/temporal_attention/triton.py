"""Attention over frames in Triton.

A program owns one head at one location and a tile of frames: of queries in the forward pass, of
keys in the backward pass. Frames are padded to the tile on chip only. The forward pass goes over
the keys with an online softmax and saves the logarithm of its sum, from which the backward pass
recomputes the probabilities. Every gradient is summed by the program that owns it, so there are
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
def _place(SPACE, HEADS, TILES):
    """Return batch, location and head of this program (64 bits), and the number of its tile."""
    program = tl.program_id(0).to(tl.int64)
    place = program // TILES
    batch, place = place // (SPACE * HEADS), place % (SPACE * HEADS)
    return batch, place // HEADS, place % HEADS, (program % TILES).to(tl.int32)


@triton.jit
def _head(ptr, strides, batch, location, head):
    """Move to the first frame of a head; strides are those of batch, frame, location and head."""
    return ptr + batch * strides[0] + location * strides[2] + head * strides[3]


@triton.jit
def _rows(ptr, frame_stride, first, FRAMES, DIM, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """Return the addresses of a tile of frames and which of them exist."""
    frame, d = first + tl.arange(0, TILE), tl.arange(0, WIDTH)
    inside = (frame < FRAMES)[:, None] & (d < DIM)[None, :]
    return ptr + frame.to(tl.int64)[:, None] * frame_stride + d[None, :], inside


@triton.jit
def _load(ptr, frame_stride, first, FRAMES, DIM, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """Load a tile of frames; what lies outside reads as zero."""
    address, inside = _rows(ptr, frame_stride, first, FRAMES, DIM, TILE, WIDTH)
    return tl.load(address, mask=inside, other=0.0)


@triton.jit
def _store(ptr, frame_stride, first, tile, FRAMES, DIM, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """Store a float32 tile of frames in the type of ``ptr``."""
    address, inside = _rows(ptr, frame_stride, first, FRAMES, DIM, TILE, WIDTH)
    tl.store(address, tile.to(ptr.dtype.element_ty), mask=inside)


@triton.jit
def _dot(a, b):
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def _forward_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, q_strides, k_strides, v_strides, out_strides,
    scale, SPACE, HEADS, FRAMES, DIM, TILES, TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write out and lse (base 2) of one tile of queries; ``scale`` includes log2(e)."""
    batch, location, head, tile = _place(SPACE, HEADS, TILES)
    q_ptr = _head(q_ptr, q_strides, batch, location, head)
    k_ptr = _head(k_ptr, k_strides, batch, location, head)
    v_ptr = _head(v_ptr, v_strides, batch, location, head)
    out_ptr = _head(out_ptr, out_strides, batch, location, head)
    lse_ptr += ((batch * SPACE + location) * HEADS + head) * FRAMES
    first = tile * TILE
    q = _load(q_ptr, q_strides[1], first, FRAMES, DIM, TILE, WIDTH)
    top = tl.full([TILE], float("-inf"), tl.float32)
    total = tl.zeros([TILE], tl.float32)
    out = tl.zeros([TILE, WIDTH], tl.float32)
    for start in range(0, FRAMES, TILE):
        k = _load(k_ptr, k_strides[1], start, FRAMES, DIM, TILE, WIDTH)
        v = _load(v_ptr, v_strides[1], start, FRAMES, DIM, TILE, WIDTH)
        is_key = start + tl.arange(0, TILE) < FRAMES
        scores = tl.where(is_key[None, :], _dot(q, tl.trans(k)) * scale, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        kept = tl.exp2(top - new_top)
        p = tl.exp2(scores - new_top[:, None])
        total = total * kept + tl.sum(p, 1)
        out = out * kept[:, None] + _dot(p.to(v.dtype), v)
        top = new_top
    _store(out_ptr, out_strides[1], first, out / total[:, None], FRAMES, DIM, TILE, WIDTH)
    frame = first + tl.arange(0, TILE)
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
    WITH_QUERIES: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write dk and dv of one tile of keys, and dq where it holds all frames."""
    batch, location, head, tile = _place(SPACE, HEADS, TILES)
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
    k = _load(k_ptr, k_strides[1], first, FRAMES, DIM, TILE, WIDTH)
    v = _load(v_ptr, v_strides[1], first, FRAMES, DIM, TILE, WIDTH)
    dk = tl.zeros([TILE, WIDTH], tl.float32)
    dv = tl.zeros([TILE, WIDTH], tl.float32)
    for start in range(0, FRAMES, TILE):
        frame = start + tl.arange(0, TILE)
        q = _load(q_ptr, q_strides[1], start, FRAMES, DIM, TILE, WIDTH)
        grad = _load(grad_ptr, grad_strides[1], start, FRAMES, DIM, TILE, WIDTH)
        out = _load(out_ptr, out_strides[1], start, FRAMES, DIM, TILE, WIDTH)
        lse = tl.load(lse_ptr + frame, mask=frame < FRAMES, other=0.0)
        p, slopes = _slopes(q, k, v, grad, out, lse, is_key, scale)
        slopes = slopes.to(q.dtype)
        dv += _dot(tl.trans(p.to(grad.dtype)), grad)
        dk += _dot(tl.trans(slopes), q)
        if WITH_QUERIES:
            dq = _dot(slopes, k) * slope_scale
            _store(dq_ptr, out_strides[1], start, dq, FRAMES, DIM, TILE, WIDTH)
    _store(dk_ptr, out_strides[1], first, dk * slope_scale, FRAMES, DIM, TILE, WIDTH)
    _store(dv_ptr, out_strides[1], first, dv, FRAMES, DIM, TILE, WIDTH)


@triton.jit
def _backward_queries_kernel(
    q_ptr, k_ptr, v_ptr, grad_ptr, out_ptr, lse_ptr, dq_ptr,
    q_strides, k_strides, v_strides, grad_strides, out_strides,
    scale, slope_scale, SPACE, HEADS, FRAMES, DIM, TILES,
    TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write dq of one tile of queries, summed over the tiles of keys."""
    batch, location, head, tile = _place(SPACE, HEADS, TILES)
    q_ptr = _head(q_ptr, q_strides, batch, location, head)
    k_ptr = _head(k_ptr, k_strides, batch, location, head)
    v_ptr = _head(v_ptr, v_strides, batch, location, head)
    grad_ptr = _head(grad_ptr, grad_strides, batch, location, head)
    out_ptr = _head(out_ptr, out_strides, batch, location, head)
    dq_ptr = _head(dq_ptr, out_strides, batch, location, head)
    lse_ptr += ((batch * SPACE + location) * HEADS + head) * FRAMES
    first = tile * TILE
    frame = first + tl.arange(0, TILE)
    q = _load(q_ptr, q_strides[1], first, FRAMES, DIM, TILE, WIDTH)
    grad = _load(grad_ptr, grad_strides[1], first, FRAMES, DIM, TILE, WIDTH)
    out = _load(out_ptr, out_strides[1], first, FRAMES, DIM, TILE, WIDTH)
    lse = tl.load(lse_ptr + frame, mask=frame < FRAMES, other=0.0)
    dq = tl.zeros([TILE, WIDTH], tl.float32)
    for start in range(0, FRAMES, TILE):
        is_key = start + tl.arange(0, TILE) < FRAMES
        k = _load(k_ptr, k_strides[1], start, FRAMES, DIM, TILE, WIDTH)
        v = _load(v_ptr, v_strides[1], start, FRAMES, DIM, TILE, WIDTH)
        _, slopes = _slopes(q, k, v, grad, out, lse, is_key, scale)
        dq += _dot(slopes.to(k.dtype), k)
    _store(dq_ptr, out_strides[1], first, dq * slope_scale, FRAMES, DIM, TILE, WIDTH)


def tile_of(q: Tensor) -> dict[str, int]:
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


def _launch(
    kernel: Any, q: Tensor, pointers: tuple[Tensor, ...], strided: tuple[Tensor, ...],
    scale: float, *slope_scale: float, **options: Any,
) -> None:  # fmt: skip
    batch, frames, space, heads, dim = q.shape
    tile = tile_of(q)
    tiles = triton.cdiv(frames, tile["TILE"])
    launch(
        kernel, batch * space * heads * tiles, q,
        *pointers, *(t.stride()[:4] for t in strided), scale * _LOG2_E, *slope_scale,
        space, heads, frames, dim, tiles, **tile, **options,
    )  # fmt: skip


@operator("unianimate::temporal_attention_triton")
def _forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    batch, frames, space, heads, _ = q.shape
    out = q.new_empty(q.shape)
    lse = q.new_empty(batch, space, heads, frames, dtype=torch.float32)
    _launch(_forward_kernel, q, (q, k, v, out, lse), (q, k, v, out), scale)
    return out, lse


@operator("unianimate::temporal_attention_triton_backward")
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    grad = dense_last(grad)
    dq, dk, dv = (q.new_empty(q.shape) for _ in range(3))
    inputs, strided = (q, k, v, grad, out, lse), (q, k, v, grad, out)
    one_tile = q.shape[1] <= tile_of(q)["TILE"]
    _launch(
        _backward_kernel, q, (*inputs, dq, dk, dv), strided, scale, scale, WITH_QUERIES=one_tile
    )
    if not one_tile:
        _launch(_backward_queries_kernel, q, (*inputs, dq), strided, scale, scale)
    return dq, dk, dv


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    batch, frames, space, heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty(batch, space, heads, frames, dtype=torch.float32)


@_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape)


def _setup_context(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float], output: tuple[Tensor, Tensor]
) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *_backward(grad, *ctx.saved_tensors, ctx.scale), None


_forward.register_autograd(_gradients, setup_context=_setup_context)


def forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return (B, F, S, heads, head_dim)."""
    return _forward(q, k, v, scale)[0]
