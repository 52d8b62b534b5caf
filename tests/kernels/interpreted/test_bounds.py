"""What conftest.py adds to the interpreter: lanes outside the arguments are found."""

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError


@triton.jit
def _copy_kernel(x_ptr, out_ptr, COUNT, READ, WIDTH: tl.constexpr):
    i = tl.arange(0, WIDTH)
    tl.store(out_ptr + i, tl.load(x_ptr + i, mask=i < READ), mask=i < COUNT)


@pytest.mark.parametrize(("count", "read"), [(8, 9), (9, 8)])
def test_a_lane_outside_the_arguments_is_found(count, read):
    x, out = torch.randn(8), torch.empty(8)
    _copy_kernel[(1,)](x, out, 8, 8, WIDTH=16)
    assert torch.equal(out, x)
    with pytest.raises(InterpreterError, match="outside all arguments"):
        _copy_kernel[(1,)](x, out, count, read, WIDTH=16)
