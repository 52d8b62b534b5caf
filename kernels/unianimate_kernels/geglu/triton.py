"""The gated GELU in Triton: one pass forward, one pass backward, nothing saved but the input.

A program takes a tile of rows and columns. Loads are cast to float32 at once, as the
interpreter's bfloat16 arithmetic is not to be trusted, and stores cast back explicitly.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from .._registration import operator
from .._triton_utils import launch

_LEAST_COLUMNS, _MOST_COLUMNS = 128, 1024
_ELEMENTS = 2048
_WARPS = 4


@triton.jit
def normal_cdf(x):
    """Return the normal distribution function of a float32, to 4e-8 absolutely.

    The upper tail is two to the power of a polynomial in |x|, fitted on [0, 5.5] so that the
    error of x times the tail is least; further out the polynomial only falls. It takes half the
    instructions of ``erf``, which would take longer than the memory does.
    """
    a = tl.abs(x)
    power = 3.296754704690682e-05 - 2.2758313080152084e-06 * a
    power = power * a - 0.00015727666932182534
    power = power * a - 0.0002024836532768964
    power = power * a + 0.007142787300524686
    power = power * a - 0.05254643922332436
    power = power * a - 0.45919305654540765
    power = power * a - 1.1511069412270594
    power = power * a - 0.9999999590181172
    tail = tl.exp2(power)
    return tl.where(x >= 0, 1.0 - tail, tail)


@triton.jit
def _tile(COUNT, WIDTH, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return the rows and the columns of this program, and which of them exist.

    The next program has the next columns.
    """
    runs = tl.cdiv(WIDTH, COLUMNS)
    program = tl.program_id(0)
    row = (program // runs).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = program % runs * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    return row, column, (row < COUNT) & (column < WIDTH)


@triton.jit
def _forward_kernel(
    x_ptr, out_ptr, x_stride, COUNT, WIDTH, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Write out[rows, columns] = value * gelu(gate)."""
    row, column, inside = _tile(COUNT, WIDTH, ROWS, COLUMNS)
    x_ptr += row * x_stride + column
    value = tl.load(x_ptr, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(x_ptr + WIDTH, mask=inside, other=0.0).to(tl.float32)
    out = value * gate * normal_cdf(gate)
    tl.store(out_ptr + row * WIDTH + column, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(
    grad_ptr, x_ptr, out_ptr, x_stride, COUNT, WIDTH, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Write both halves of the gradient of x[rows, columns]."""
    row, column, inside = _tile(COUNT, WIDTH, ROWS, COLUMNS)
    x_ptr += row * x_stride + column
    value = tl.load(x_ptr, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(x_ptr + WIDTH, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    cdf = normal_cdf(gate)
    density = 0.3989422804014327 * tl.exp(-0.5 * gate * gate)
    out_ptr += row * 2 * WIDTH + column
    tl.store(out_ptr, (grad * gate * cdf).to(out_ptr.dtype.element_ty), mask=inside)
    slope = grad * value * (cdf + gate * density)
    tl.store(out_ptr + WIDTH, slope.to(out_ptr.dtype.element_ty), mask=inside)


def tile_of(width: int) -> dict[str, int]:
    """Return the rows and columns of a program, and its warps.

    The columns are those that leave the fewest lanes idle, and of these the most.
    """
    fits = triton.next_power_of_2(width)
    columns, most = min(_LEAST_COLUMNS, fits), min(_MOST_COLUMNS, fits)
    runs = [columns << n for n in range((most // columns).bit_length())]
    columns = min(runs, key=lambda run: (triton.cdiv(width, run) * run, -run))
    return {"ROWS": max(1, _ELEMENTS // columns), "COLUMNS": columns, "num_warps": _WARPS}


def _launch(kernel: Any, x: Tensor, out: Tensor, *before: Tensor) -> None:
    rows = x.reshape(-1, x.shape[-1])
    count, width = rows.shape[0], rows.shape[1] // 2
    tile = tile_of(width)
    programs = triton.cdiv(count, tile["ROWS"]) * triton.cdiv(width, tile["COLUMNS"])
    launch(kernel, programs, x, *before, rows, out, rows.stride(0), count, width, **tile)


@operator("unianimate::geglu_triton")
def _forward(x: Tensor) -> Tensor:
    out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
    _launch(_forward_kernel, x, out)
    return out


@operator("unianimate::geglu_triton_backward")
def _backward(grad: Tensor, x: Tensor) -> Tensor:
    out = x.new_empty(x.shape)
    _launch(_backward_kernel, x, out, grad.contiguous())
    return out


@_forward.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], x.shape[-1] // 2)


@_backward.register_fake
def _(grad: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> Tensor:
    return _backward(grad, *ctx.saved_tensors)


_forward.register_autograd(_gradients, setup_context=_setup_context)


def forward(x: Tensor) -> Tensor:
    """Return (..., H) for (..., 2H)."""
    return _forward(x)
