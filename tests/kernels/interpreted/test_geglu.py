import gates
import pytest
import torch

from unianimate_kernels import geglu


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2,), (3, 34), (5, 132), (3, 3, 640), (2, 3, 2600)])
def test_triton_meets_the_gate(shape, dtype):
    x = 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # the interpreter truncates where it stores bfloat16: one more rounding error
    slack = 2.0 if dtype == torch.bfloat16 else 1.0
    gates.check(geglu, {"x": x}, backend="triton", dtype=dtype, slack=slack)


def test_triton_reads_strided_rows_in_place():
    wide = torch.randn(6, 100, generator=torch.Generator().manual_seed(7))
    gates.check(geglu, {"x": wide[:, 10:50]}, backend="triton", dtype=torch.float32)


def test_a_program_takes_several_rows_and_a_row_several_programs():
    x = torch.randn(11, 2 * 1280, generator=torch.Generator().manual_seed(1))
    gates.check(geglu, {"x": x}, backend="triton", dtype=torch.float32)


@pytest.mark.filterwarnings("ignore:overflow")  # of the power: its tail is zero
def test_the_distribution_function_is_exact_to_the_last_bits():
    """Also in the tails, at infinity as torch has it, and for what is no number."""
    gate = torch.cat([torch.linspace(-40, 40, 8001), torch.tensor([3e38, -3e38, torch.inf])])
    x = torch.stack([torch.ones_like(gate), gate], -1)
    got = geglu(x, backend="triton")[:, 0].double()
    truth = torch.nn.functional.gelu(gate.double())
    assert (got - truth).abs().nan_to_num(0.0).div(truth.abs().clamp(min=1)).max() <= 1.2e-7
    assert geglu(torch.tensor([1.0, torch.nan]), backend="triton").isnan().all()


@pytest.mark.parametrize(
    ("width", "columns"), [(1, 1), (66, 128), (320, 128), (1280, 256), (5120, 1024), (1300, 128)]
)
def test_few_lanes_are_idle(width, columns):
    from unianimate_kernels.geglu.triton import tile_of

    assert tile_of(width)["COLUMNS"] == columns


def test_opcheck():
    x = torch.randn(3, 10, requires_grad=True, generator=torch.Generator().manual_seed(7))
    geglu(x, backend="triton")
    torch.library.opcheck(torch.ops.unianimate.geglu_triton, (x,))
