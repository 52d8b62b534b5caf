"""Rows of channels in Triton: added up, and normalised in the same pass. For inference.

A program takes a few whole rows. What is added is added in float32 and rounded once; the norm
sees the sum before it is rounded.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._dense import contiguous
from ._registration import operator
from ._triton_utils import launch

# numbers of half precision that a program holds, and its warps: the fastest on an H200
# at 320 channels
_NORM = {"numbers": 2048, "num_warps": 2}
_SUM = {"numbers": 4096, "num_warps": 4}


@triton.jit
def _rows_kernel(
    x_ptr, added_ptr, before_ptr, weight_ptr, shift_ptr, extra_ptr, sum_ptr, out_ptr,
    ROWS, WIDTH, eps, TILE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write h + extra and the norm of h = x + added + before; absent pointers are None.

    With a shift it is the layer norm, which centres the rows, and without one the RMS norm.
    """
    row = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    column = tl.arange(0, COLUMNS)
    has_column = column < WIDTH
    inside = (row < ROWS)[:, None] & has_column[None, :]
    at = row[:, None] * WIDTH + column[None, :]
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if added_ptr is not None:
        x += tl.load(added_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if before_ptr is not None:
        x += tl.load(before_ptr + column, mask=has_column, other=0.0).to(tl.float32)[None, :]
    if sum_ptr is not None:
        total = x
        if extra_ptr is not None:
            extra = tl.load(extra_ptr + column, mask=has_column, other=0.0).to(tl.float32)
            total += extra[None, :]
        tl.store(sum_ptr + at, total.to(sum_ptr.dtype.element_ty), mask=inside)
    if out_ptr is not None:
        if shift_ptr is not None:
            mean = tl.sum(x, axis=1) / WIDTH
            x = tl.where(inside, x - mean[:, None], 0.0)
        scale = 1.0 / tl.sqrt(tl.sum(x * x, axis=1) / WIDTH + eps)
        weight = tl.load(weight_ptr + column, mask=has_column, other=0.0).to(tl.float32)
        out = x * scale[:, None] * weight[None, :]
        if shift_ptr is not None:
            out += tl.load(shift_ptr + column, mask=has_column, other=0.0).to(tl.float32)[None, :]
        tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=inside)


def tile_of(x: Tensor, numbers: int, num_warps: int) -> dict[str, int]:
    """Return the rows and columns of a program, and its warps: more where a row is long."""
    columns = triton.next_power_of_2(x.shape[-1])
    warps = min(8, max(num_warps, columns // 512))
    tile = max(1, 2 * numbers // x.itemsize // columns)
    return {"TILE": tile, "COLUMNS": columns, "num_warps": warps}


def _launch(x: Tensor, kind: dict[str, int], *arguments: Tensor | None, eps: float = 0.0) -> None:
    width = x.shape[-1]
    rows, tile = x.numel() // width, tile_of(x, **kind)
    programs = triton.cdiv(rows, tile["TILE"])
    dense = map(contiguous, arguments)
    launch(_rows_kernel, programs, x, x, *dense, rows, width, eps, **tile)


@operator("unianimate::layer_norm_triton")
def layer_norm(
    x: Tensor, weight: Tensor, shift: Tensor, eps: float, before: Tensor | None
) -> Tensor:
    """Return the layer norm of ``x + before``: contiguous rows (..., C), and (C,)."""
    out = torch.empty_like(x)
    _launch(x, _NORM, None, before, weight, shift, None, None, out, eps=eps)
    return out


@operator("unianimate::add_layer_norm_triton")
def add_layer_norm(
    x: Tensor,
    added: Tensor | None,
    weight: Tensor,
    shift: Tensor,
    eps: float,
    before: Tensor | None,
    extra: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return ``h + extra`` and the layer norm of ``h = x + added + before``; both are (C,)."""
    total, out = torch.empty_like(x), torch.empty_like(x)
    _launch(x, _NORM, added, before, weight, shift, extra, total, out, eps=eps)
    return total, out


@operator("unianimate::add_rms_norm_triton")
def add_rms_norm(x: Tensor, added: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    """Return the RMS norm of ``x + added`` for contiguous rows (..., C)."""
    out = torch.empty_like(x)
    _launch(x, _NORM, added, None, weight, None, None, None, out, eps=eps)
    return out


@operator("unianimate::add_rows_triton")
def add_rows(x: Tensor, added: Tensor, extra: Tensor) -> Tensor:
    """Return ``x + added + extra`` for contiguous rows (..., C) and ``extra`` (C,)."""
    total = torch.empty_like(x)
    _launch(x, _SUM, added, None, None, None, extra, total, None)
    return total


def _like(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x)


for _op in (layer_norm, add_rms_norm, add_rows):
    _op.register_fake(_like)
add_layer_norm.register_fake(lambda x, *_: (torch.empty_like(x), torch.empty_like(x)))
