"""The widening product of a feed-forward with its gate in Triton, for NVIDIA's tensor cores.

The eightfold width never reaches memory: a program sums a tile of values and that of their gates
from the same rows.
"""

import triton
import triton.language as tl
from torch import Tensor

from .._descriptors import descriptor
from .._registration import operator
from .._triton_utils import launch
from ..geglu.triton import normal_cdf

# the fastest on an H200 at 320 to 1280 channels; two programs share a multiprocessor, so that one
# multiplies while the other writes
_TILE = {"ROWS": 128, "COLUMNS": 64, "TERMS": 64}
_OPTIONS = {"num_warps": 4, "num_stages": 3}


@triton.jit(do_not_specialize=["WIDTH", "PARTS"])
def _gated_kernel(
    x, weight, bias_ptr, out, WIDTH, PARTS,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """Write a tile of out (N, WIDTH); x is (N, C) and weight (2 WIDTH, C), gates after values."""
    across = tl.cdiv(WIDTH, COLUMNS)
    row = tl.program_id(0) // across * ROWS
    column = tl.program_id(0) % across * COLUMNS
    value = tl.zeros((ROWS, COLUMNS), tl.float32)
    gate = tl.zeros((ROWS, COLUMNS), tl.float32)
    for part in range(PARTS):
        a = x.load([row, part * TERMS])
        value = tl.dot(a, weight.load([column, part * TERMS]).T, value)
        gate = tl.dot(a, weight.load([column + WIDTH, part * TERMS]).T, gate)
    index = column + tl.arange(0, COLUMNS)
    inside = index < WIDTH
    value += tl.load(bias_ptr + index, mask=inside, other=0.0).to(tl.float32)[None, :]
    gate += tl.load(bias_ptr + WIDTH + index, mask=inside, other=0.0).to(tl.float32)[None, :]
    out.store([row, column], (value * gate * normal_cdf(gate)).to(out.dtype))


@operator("unianimate::gated_product_triton")
def gated_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``geglu(x @ weight.T + bias)``, (N, H) for rows (N, C) and a weight (2 H, C)."""
    (rows, channels), width = x.shape, weight.shape[0] // 2
    out = x.new_empty(rows, width)
    high, wide, terms = _TILE.values()
    programs = triton.cdiv(rows, high) * triton.cdiv(width, wide)
    tiles = descriptor(x, high, terms), descriptor(weight, wide, terms), bias.contiguous()
    sizes = width, triton.cdiv(channels, terms)
    into = descriptor(out, high, wide)
    launch(_gated_kernel, programs, x, *tiles, into, *sizes, **_TILE, **_OPTIONS)
    return out


@gated_product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0] // 2)
