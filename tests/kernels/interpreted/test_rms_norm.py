import gates
import pytest
import torch

from unianimate_kernels import rms_norm


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", [(1,), (3, 34), (2, 17, 3, 640), (2, 2100)])
def test_meets_the_gate(shape, dtype, added):
    generator = torch.Generator().manual_seed(0)
    x, other = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(shape[-1], generator=generator, dtype=torch.float64)
    inputs = {"x": x, "weight": weight, **({"added": other} if added else {})}
    gates.check(rms_norm, inputs, backend="triton", dtype=dtype, gradients=False)


def test_strided_rows_and_weights():
    generator = torch.Generator().manual_seed(1)
    x, added = torch.randn(2, 5, 3, 14, generator=generator, dtype=torch.float64)[..., ::2]
    weight = torch.randn(14, generator=generator, dtype=torch.float64)[::2]
    inputs = {"x": x.transpose(0, 1), "weight": weight, "added": added.transpose(0, 1)}
    gates.check(rms_norm, inputs, backend="triton", dtype=torch.float32, gradients=False)


def test_opcheck():
    x, added = torch.randn(2, 3, 10)
    for other in (added, None):
        given = (x, other, torch.randn(10), 1e-5)
        torch.library.opcheck(torch.ops.unianimate.add_rms_norm_triton, given)
