"""The gated GELU in Triton: one pass forward, one pass backward, nothing saved but the input.

A program takes a run of columns of one row. Loads are cast to float32 at once, as the
interpreter's bfloat16 arithmetic is not to be trusted, and stores cast back explicitly.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from .._registration import operator
from .._triton_utils import launch

_MAX_COLUMNS = 1024
_WARPS = 4


@triton.jit
def _normal_cdf(x):
    return 0.5 * (1.0 + tl.math.erf(x * 0.7071067811865476))


@triton.jit
def _tile(WIDTH, COLUMNS: tl.constexpr):
    """Return the row and the columns of this program; the next program has the next columns."""
    runs = tl.cdiv(WIDTH, COLUMNS)
    program = tl.program_id(0)
    return (program // runs).to(tl.int64), program % runs * COLUMNS + tl.arange(0, COLUMNS)


@triton.jit
def _forward_kernel(x_ptr, out_ptr, x_stride, WIDTH, COLUMNS: tl.constexpr):
    """Write out[row, columns] = value * gelu(gate)."""
    row, column = _tile(WIDTH, COLUMNS)
    inside = column < WIDTH
    x_ptr += row * x_stride + column
    value = tl.load(x_ptr, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(x_ptr + WIDTH, mask=inside, other=0.0).to(tl.float32)
    out = value * gate * _normal_cdf(gate)
    tl.store(out_ptr + row * WIDTH + column, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(grad_ptr, x_ptr, out_ptr, x_stride, WIDTH, COLUMNS: tl.constexpr):
    """Write both halves of the gradient of x[row, columns]."""
    row, column = _tile(WIDTH, COLUMNS)
    inside = column < WIDTH
    x_ptr += row * x_stride + column
    value = tl.load(x_ptr, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(x_ptr + WIDTH, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    cdf = _normal_cdf(gate)
    density = 0.3989422804014327 * tl.exp(-0.5 * gate * gate)
    out_ptr += row * 2 * WIDTH + column
    tl.store(out_ptr, (grad * gate * cdf).to(out_ptr.dtype.element_ty), mask=inside)
    slope = grad * value * (cdf + gate * density)
    tl.store(out_ptr + WIDTH, slope.to(out_ptr.dtype.element_ty), mask=inside)


def _launch(kernel: Any, x: Tensor, out: Tensor, *before: Tensor) -> None:
    rows = x.reshape(-1, x.shape[-1])
    width = rows.shape[1] // 2
    columns = min(_MAX_COLUMNS, triton.next_power_of_2(width))
    programs = rows.shape[0] * triton.cdiv(width, columns)
    arguments = (*before, rows, out, rows.stride(0), width, columns)
    launch(kernel, programs, x, *arguments, num_warps=_WARPS)


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
