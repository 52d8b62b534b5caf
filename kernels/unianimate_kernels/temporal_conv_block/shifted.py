"""A 3x1x1 convolution in Triton: one product of three shifted views, for NVIDIA's tensor cores.

The rows of a clip, frame after frame, are one axis: the frame before lies as many rows earlier as
there are locations, and what would lie outside the clip is read as zero. A program takes tiles of
the result one after the other, so that the next one is fetched while the last is written.
"""

import triton
import triton.language as tl
from torch import Tensor

from .._descriptors import descriptor, programs_at_once
from .._registration import operator
from .._triton_utils import launch
from ..temporal_conv.native import like_video, rows_of

# the fastest on an H200 at 320 and 640 channels, and at 1280
_TILE = {"ROWS": 256, "COLUMNS": 128}
_WIDE = {"ROWS": 128, "COLUMNS": 256}
_TERMS = 64
_OPTIONS = {"num_warps": 8, "num_stages": 3}


@triton.jit(do_not_specialize=["COUNT", "LENGTH", "SPACE", "WIDTH", "PARTS"])
def _shifted_kernel(
    x, weight, out, COUNT, LENGTH, SPACE, WIDTH, PARTS,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """Write tiles of out (B, LENGTH, WIDTH); x is (B, LENGTH, C) and weight (WIDTH, 3, C)."""
    across = tl.cdiv(WIDTH, COLUMNS)
    down = tl.cdiv(LENGTH, ROWS)
    for tile in tl.range(tl.program_id(0), COUNT, tl.num_programs(0), flatten=True):
        item = tile // (across * down)
        row = tile // across % down * ROWS
        column = tile % across * COLUMNS
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for part in range(3 * PARTS):
            tap = part // PARTS
            term = part % PARTS * TERMS
            a = x.load([item, row + (tap - 1) * SPACE, term]).reshape(ROWS, TERMS)
            w = weight.load([column, tap, term]).reshape(COLUMNS, TERMS)
            total = tl.dot(a, w.T, total)
        out.store([item, row, column], total.to(out.dtype).reshape(1, ROWS, COLUMNS))


def tile_of(width: int) -> dict[str, int]:
    """Return the tile of a program and how many terms of its sums are fetched at once."""
    return {**(_WIDE if width % _WIDE["COLUMNS"] == 0 else _TILE), "TERMS": _TERMS}


@operator("unianimate::shifted_product_triton")
def shifted_product(x: Tensor, weight: Tensor) -> Tensor:
    """Return (B, N, F, H, W), channels-last: x (B, C, F, H, W) by weight (N, C, 3, 1, 1)."""
    rows = rows_of(x)
    space = rows.shape[2]
    rows = rows.flatten(1, 2)
    (batch, length, channels), width = rows.shape, weight.shape[0]
    out = like_video(x, width)
    tile = tile_of(width)
    high, wide, terms = tile.values()
    count = batch * triton.cdiv(length, high) * triton.cdiv(width, wide)
    tiles = (
        descriptor(rows, 1, high, terms),
        descriptor(weight.flatten(2).transpose(1, 2), wide, 1, terms),
        descriptor(rows_of(out).flatten(1, 2), 1, high, wide),
    )
    sizes = count, length, space, width, triton.cdiv(channels, terms)
    programs = min(count, programs_at_once(x))
    launch(_shifted_kernel, programs, x, *tiles, *sizes, **tile, **_OPTIONS)
    return out


@shifted_product.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return like_video(x, weight.shape[0])
