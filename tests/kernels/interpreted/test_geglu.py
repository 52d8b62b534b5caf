import gates
import pytest
import torch

from unianimate_kernels import geglu


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2,), (3, 34), (2, 3, 2600)])
def test_triton_meets_the_gate(shape, dtype):
    x = 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # the interpreter truncates where it stores bfloat16: one more rounding error
    slack = 2.0 if dtype == torch.bfloat16 else 1.0
    gates.check(geglu, {"x": x}, backend="triton", dtype=dtype, slack=slack)


def test_triton_reads_strided_rows_in_place():
    wide = torch.randn(6, 100, generator=torch.Generator().manual_seed(7))
    gates.check(geglu, {"x": wide[:, 10:50]}, backend="triton", dtype=torch.float32)


def test_opcheck():
    x = torch.randn(3, 10, requires_grad=True, generator=torch.Generator().manual_seed(7))
    geglu(x, backend="triton")
    torch.library.opcheck(torch.ops.unianimate.geglu_triton, (x,))
