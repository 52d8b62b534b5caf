"""Group normalisation + SiLU in Triton, rows of channels (channels-last) only.

As csrc/group_norm_silu/cuda.cu: one pass leaves sums per channel for every block of rows, a small
kernel folds them to groups, one pass writes the result; backward likewise, recomputing from mean
and rstd. A program of a large pass takes one block of rows of one item and a tile of neighbouring
channels. Partial sums have their own places: no atomics, the same bits every time.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._registration import operator
from .._triton_utils import launch, silu, silu_gradient
from . import layout
from ._autograd import empty_gradients, empty_statistics, register

_ROWS = 16
_CHANNELS = 64
_WARPS = 4


@triton.jit
def _place(C, BLOCKS, CHANNELS: tl.constexpr):
    """Return the item, the block of rows and the channels of this program."""
    tiles = tl.cdiv(C, CHANNELS)
    program = tl.program_id(0)
    part = program // tiles
    channels = program % tiles * CHANNELS + tl.arange(0, CHANNELS)
    return (part // BLOCKS).to(tl.int64), part % BLOCKS, channels


@triton.jit
def _offset(row, strides, inner, MERGED: tl.constexpr):
    """Return where a row of an item begins; MERGED: the rows lie on one strided axis."""
    row = row.to(tl.int64)
    if MERGED:
        return row * strides[3]
    outer = row // inner[1]
    first = row % inner[1] * strides[3]
    return first + outer % inner[0] * strides[2] + outer // inner[0] * strides[1]


@triton.jit
def _load(pointer, inside):
    return tl.load(pointer, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _shift(embedding_ptr, index, inside):
    """Return what the embedding adds to channels, or 0."""
    shift = 0.0
    if embedding_ptr is not None:  # Triton 3.6 compiles what stands behind a `return`, too
        shift = _load(embedding_ptr + index, inside)
    return shift


@triton.jit
def _moments_kernel(
    x_ptr, sums_ptr, x_strides, inner, C, N_ROWS, BLOCK, BLOCKS,
    MERGED: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Leave the sums of x and x^2 about the item's first row, for each channel of a block."""
    n, block, c = _place(C, BLOCKS, CHANNELS)
    x_ptr += n * x_strides[0] + c
    origin = _load(x_ptr, c < C)
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    square = tl.zeros((ROWS, CHANNELS), tl.float32)
    last = tl.minimum((block + 1) * BLOCK, N_ROWS)
    for start in range(block * BLOCK, last, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < last)[:, None] & (c < C)[None, :]
        x = _load(x_ptr[None, :] + _offset(row, x_strides, inner, MERGED)[:, None], inside)
        d = tl.where(inside, x - origin[None, :], 0.0)
        total += d
        square += d * d
    sums_ptr += (n * BLOCKS + block) * 2 * C + c
    tl.store(sums_ptr, tl.sum(total, 0), mask=c < C)
    tl.store(sums_ptr + C, tl.sum(square, 0), mask=c < C)


@triton.jit
def _over_blocks(sums_ptr, n, c, inside, C, BLOCKS, COUNT: tl.constexpr, ROWS: tl.constexpr):
    """Return the sum over all blocks of an item, for channels c."""
    total = tl.zeros(c.shape, tl.float64)
    for start in range(0, BLOCKS, ROWS):
        block = start + tl.arange(0, ROWS)
        mask = (block < BLOCKS)[:, None] & inside[None, :]
        index = (n * BLOCKS + block) * COUNT * C
        total += tl.sum(tl.load(sums_ptr + index[:, None] + c[None, :], mask=mask, other=0.0).to(
            tl.float64), 0)  # fmt: skip
    return total


@triton.jit
def _fold_kernel(
    x_ptr, sums_ptr, weight_ptr, bias_ptr, embedding_ptr, mean_ptr, rstd_ptr, table_ptr,
    x_stride_n, eps, C, GROUPS, PER_GROUP, N_ROWS, BLOCKS,
    WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Combine the statistics of one group (Chan et al., 1979); write what its channels need."""
    n = (tl.program_id(0) // GROUPS).to(tl.int64)
    lane = tl.arange(0, WIDTH)
    inside = lane < PER_GROUP
    c = tl.program_id(0) % GROUPS * PER_GROUP + lane
    drift = _over_blocks(sums_ptr, n, c, inside, C, BLOCKS, 2, ROWS) / N_ROWS
    square = _over_blocks(sums_ptr + C, n, c, inside, C, BLOCKS, 2, ROWS)
    shift = _shift(embedding_ptr, n * C + c, inside)
    means = drift + _load(x_ptr + n * x_stride_n + c, inside) + shift
    mean = tl.sum(tl.where(inside, means, 0.0), 0) / PER_GROUP
    spreads = square - drift * drift * N_ROWS + (means - mean) * (means - mean) * N_ROWS
    variance = tl.sum(tl.where(inside, spreads, 0.0), 0) / PER_GROUP / N_ROWS
    rstd = 1.0 / tl.sqrt(variance + eps)
    tl.store(mean_ptr + tl.program_id(0), mean.to(tl.float32))
    tl.store(rstd_ptr + tl.program_id(0), rstd.to(tl.float32))
    table_ptr += n * 3 * C + c
    tl.store(table_ptr, (mean - shift).to(tl.float32), mask=inside)
    scale = rstd * _load(weight_ptr + c, inside)
    tl.store(table_ptr + C, scale.to(tl.float32), mask=inside)
    tl.store(table_ptr + 2 * C, _load(bias_ptr + c, inside), mask=inside)


@triton.jit
def _apply_kernel(
    x_ptr, out_ptr, table_ptr, x_strides, out_strides, inner, C, N_ROWS, BLOCK, BLOCKS,
    SILU: tl.constexpr, MERGED: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write the result for a block of rows."""
    n, block, c = _place(C, BLOCKS, CHANNELS)
    table_ptr += n * 3 * C + c
    centre = _load(table_ptr, c < C)[None, :]
    scale = _load(table_ptr + C, c < C)[None, :]
    bias = _load(table_ptr + 2 * C, c < C)[None, :]
    x_ptr += n * x_strides[0] + c
    out_ptr += n * out_strides[0] + c
    last = tl.minimum((block + 1) * BLOCK, N_ROWS)
    for start in range(block * BLOCK, last, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < last)[:, None] & (c < C)[None, :]
        x = _load(x_ptr[None, :] + _offset(row, x_strides, inner, MERGED)[:, None], inside)
        z = (x - centre) * scale + bias
        if SILU:
            z = silu(z)
        out = out_ptr[None, :] + _offset(row, out_strides, inner, MERGED)[:, None]
        tl.store(out, z.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _channels(weight_ptr, bias_ptr, embedding_ptr, mean_ptr, rstd_ptr, n, c, C, GROUPS, PER_GROUP):
    """Return centre, rstd, weight and bias of channels c of item n."""
    group = n * GROUPS + c // PER_GROUP
    centre = _load(mean_ptr + group, c < C) - _shift(embedding_ptr, n * C + c, c < C)
    rstd = _load(rstd_ptr + group, c < C)
    return centre, rstd, _load(weight_ptr + c, c < C), _load(bias_ptr + c, c < C)


@triton.jit
def _slope(grad, u, weight, bias, SILU: tl.constexpr):
    """Return the gradient before the activation, given the normalised value u."""
    if SILU:
        grad = grad * silu_gradient(u * weight + bias)
    return grad


@triton.jit
def _slopes_kernel(
    grad_ptr, x_ptr, weight_ptr, bias_ptr, embedding_ptr, mean_ptr, rstd_ptr, sums_ptr,
    grad_strides, x_strides, inner, C, GROUPS, PER_GROUP, N_ROWS, BLOCK, BLOCKS,
    SILU: tl.constexpr, MERGED: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Leave the sums of g, g u and u for each channel of a block of rows."""
    n, block, c = _place(C, BLOCKS, CHANNELS)
    centre, rstd, weight, bias = _channels(
        weight_ptr, bias_ptr, embedding_ptr, mean_ptr, rstd_ptr, n, c, C, GROUPS, PER_GROUP
    )
    x_ptr += n * x_strides[0] + c
    grad_ptr += n * grad_strides[0] + c
    sum_g = tl.zeros((ROWS, CHANNELS), tl.float32)
    sum_gu = tl.zeros((ROWS, CHANNELS), tl.float32)
    sum_u = tl.zeros((ROWS, CHANNELS), tl.float32)
    last = tl.minimum((block + 1) * BLOCK, N_ROWS)
    for start in range(block * BLOCK, last, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < last)[:, None] & (c < C)[None, :]
        x = _load(x_ptr[None, :] + _offset(row, x_strides, inner, MERGED)[:, None], inside)
        at = _offset(row, grad_strides, inner, MERGED)[:, None]
        u = tl.where(inside, (x - centre[None, :]) * rstd[None, :], 0.0)
        g = _slope(_load(grad_ptr[None, :] + at, inside), u, weight[None, :], bias[None, :], SILU)
        sum_g += g
        sum_gu += g * u
        sum_u += u
    sums_ptr += (n * BLOCKS + block) * 3 * C + c
    tl.store(sums_ptr, tl.sum(sum_g, 0), mask=c < C)
    tl.store(sums_ptr + C, tl.sum(sum_gu, 0), mask=c < C)
    tl.store(sums_ptr + 2 * C, tl.sum(sum_u, 0), mask=c < C)


@triton.jit
def _fold_slopes_kernel(
    sums_ptr, weight_ptr, rstd_ptr, grad_embedding_ptr, table_ptr,
    C, GROUPS, PER_GROUP, N_ROWS, BLOCKS, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Form the means over one group, the gradient of the embedding and the channels' totals."""
    n = (tl.program_id(0) // GROUPS).to(tl.int64)
    lane = tl.arange(0, WIDTH)
    inside = lane < PER_GROUP
    c = tl.program_id(0) % GROUPS * PER_GROUP + lane
    g = _over_blocks(sums_ptr, n, c, inside, C, BLOCKS, 3, ROWS)
    gu = _over_blocks(sums_ptr + C, n, c, inside, C, BLOCKS, 3, ROWS)
    u = _over_blocks(sums_ptr + 2 * C, n, c, inside, C, BLOCKS, 3, ROWS)
    weight = _load(weight_ptr + c, inside)
    mean_g = tl.sum(weight * g, 0) / PER_GROUP / N_ROWS
    mean_gu = tl.sum(weight * gu, 0) / PER_GROUP / N_ROWS
    rstd = tl.load(rstd_ptr + tl.program_id(0))
    table_ptr += n * 4 * C + c
    zeros = tl.zeros((WIDTH,), tl.float64)
    tl.store(table_ptr, (zeros + rstd * mean_g).to(tl.float32), mask=inside)
    tl.store(table_ptr + C, (zeros + rstd * mean_gu).to(tl.float32), mask=inside)
    tl.store(table_ptr + 2 * C, g.to(tl.float32), mask=inside)
    tl.store(table_ptr + 3 * C, gu.to(tl.float32), mask=inside)
    if grad_embedding_ptr is not None:
        shift = (rstd * (weight * g - mean_g * N_ROWS - u * mean_gu)).to(tl.float32)
        out_ptr = grad_embedding_ptr + n * C + c
        tl.store(out_ptr, shift.to(grad_embedding_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _parameters_kernel(
    table_ptr, grad_weight_ptr, grad_bias_ptr, C, N,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Add up the channels' totals over the items, for a tile of channels."""
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    # an item's four rows of the table are to _over_blocks what blocks of four sums are
    zero = tl.zeros((), tl.int64)
    g = _over_blocks(table_ptr + 2 * C, zero, c, c < C, C, N, 4, ROWS).to(tl.float32)
    gu = _over_blocks(table_ptr + 3 * C, zero, c, c < C, C, N, 4, ROWS).to(tl.float32)
    tl.store(grad_bias_ptr + c, g.to(grad_bias_ptr.dtype.element_ty), mask=c < C)
    tl.store(grad_weight_ptr + c, gu.to(grad_weight_ptr.dtype.element_ty), mask=c < C)


@triton.jit
def _input_kernel(
    grad_ptr, x_ptr, weight_ptr, bias_ptr, embedding_ptr, mean_ptr, rstd_ptr, table_ptr, out_ptr,
    grad_strides, x_strides, out_strides, inner, C, GROUPS, PER_GROUP, N_ROWS, BLOCK, BLOCKS,
    SILU: tl.constexpr, MERGED: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write the gradient of x for a block of rows: rstd (w g - mean w g - u mean w g u)."""
    n, block, c = _place(C, BLOCKS, CHANNELS)
    centre, rstd, weight, bias = _channels(
        weight_ptr, bias_ptr, embedding_ptr, mean_ptr, rstd_ptr, n, c, C, GROUPS, PER_GROUP
    )
    level = _load(table_ptr + n * 4 * C + c, c < C)[None, :]
    slope = _load(table_ptr + n * 4 * C + C + c, c < C)[None, :]
    scale = (rstd * weight)[None, :]
    x_ptr += n * x_strides[0] + c
    grad_ptr += n * grad_strides[0] + c
    out_ptr += n * out_strides[0] + c
    last = tl.minimum((block + 1) * BLOCK, N_ROWS)
    for start in range(block * BLOCK, last, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < last)[:, None] & (c < C)[None, :]
        x = _load(x_ptr[None, :] + _offset(row, x_strides, inner, MERGED)[:, None], inside)
        at = _offset(row, grad_strides, inner, MERGED)[:, None]
        u = (x - centre[None, :]) * rstd[None, :]
        g = _slope(_load(grad_ptr[None, :] + at, inside), u, weight[None, :], bias[None, :], SILU)
        value = scale * g - level - slope * u
        out = out_ptr[None, :] + _offset(row, out_strides, inner, MERGED)[:, None]
        tl.store(out, value.to(out_ptr.dtype.element_ty), mask=inside)


class _Plan:
    """Sizes, strides and grids of one call; the first tensor is x, the others lie beside it."""

    def __init__(self, num_groups: int, *tensors: Tensor) -> None:
        x = tensors[0]
        self.batch, channels = x.shape[:2]
        rows = x.numel() // (self.batch * channels)
        sizes, strides = layout.row_axes(*tensors)
        self.inner = tuple(sizes[1:])
        self.strides = tuple((t.stride(0), *own) for t, own in zip(tensors, strides))
        block, self.blocks = layout.blocks(x)
        self.groups = (channels, num_groups, channels // num_groups)
        self.rows = (rows, block, self.blocks)
        self.tile = (sizes[2] == rows, _ROWS, _CHANNELS)
        self.fold_tile = (triton.next_power_of_2(channels // num_groups), _ROWS)
        self.tiles = triton.cdiv(channels, _CHANNELS)
        self.programs = self.batch * self.blocks * self.tiles


@operator("unianimate::group_norm_silu_triton")
def _forward(
    x: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    embedding: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    weight, bias = weight.contiguous(), bias.contiguous()
    embedding = None if embedding is None else embedding.contiguous()
    out = layout.empty(x)
    mean, rstd = empty_statistics(x, num_groups)
    plan = _Plan(num_groups, x, out)
    channels = x.shape[1]
    sums = x.new_empty(plan.batch, plan.blocks, 2, channels, dtype=torch.float32)
    table = x.new_empty(plan.batch, 3, channels, dtype=torch.float32)

    def run(kernel: Any, programs: int, *arguments: Any) -> None:
        launch(kernel, programs, x, *arguments, num_warps=_WARPS)

    x_strides, out_strides = plan.strides
    run(_moments_kernel, plan.programs, x, sums, x_strides, plan.inner, channels, *plan.rows,
        *plan.tile)  # fmt: skip
    run(_fold_kernel, plan.batch * num_groups, x, sums, weight, bias, embedding, mean, rstd, table,
        x.stride(0), eps, *plan.groups, plan.rows[0], plan.blocks, *plan.fold_tile)  # fmt: skip
    run(_apply_kernel, plan.programs, x, out, table, x_strides, out_strides, plan.inner, channels,
        *plan.rows, silu, *plan.tile)  # fmt: skip
    return out, mean, rstd


@operator("unianimate::group_norm_silu_triton_backward")
def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    embedding: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weight, bias = weight.contiguous(), bias.contiguous()
    embedding = None if embedding is None else embedding.contiguous()
    gradients = empty_gradients(x, weight, embedding)
    out, grad_weight, grad_bias, grad_embedding = gradients
    plan = _Plan(mean.shape[1], x, grad, out)
    channels = x.shape[1]
    sums = x.new_empty(plan.batch, plan.blocks, 3, channels, dtype=torch.float32)
    table = x.new_empty(plan.batch, 4, channels, dtype=torch.float32)

    def run(kernel: Any, programs: int, *arguments: Any) -> None:
        launch(kernel, programs, x, *arguments, num_warps=_WARPS)

    x_strides, grad_strides, out_strides = plan.strides
    read = (grad, x, weight, bias, embedding, mean, rstd)
    sizes = (plan.inner, *plan.groups, *plan.rows, silu, *plan.tile)
    run(_slopes_kernel, plan.programs, *read, sums, grad_strides, x_strides, *sizes)
    run(_fold_slopes_kernel, plan.batch * mean.shape[1], sums, weight, rstd,
        None if embedding is None else grad_embedding, table,
        *plan.groups, plan.rows[0], plan.blocks, *plan.fold_tile)  # fmt: skip
    run(_parameters_kernel, plan.tiles, table, grad_weight, grad_bias, channels, plan.batch,
        _ROWS, _CHANNELS)  # fmt: skip
    run(_input_kernel, plan.programs, *read, table, out, grad_strides, x_strides, out_strides,
        *sizes)  # fmt: skip
    return gradients


register(_forward, _backward, planes=False)


def forward(
    x: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    embedding: Tensor | None,
    activation: str | None,
) -> Tensor:
    """Return the normalised, activated tensor in x's dtype and memory format."""
    out, _, _ = _forward(x, num_groups, weight, bias, eps, embedding, activation == "silu")
    return out
