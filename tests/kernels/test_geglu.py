import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unianimate_kernels import geglu

DTYPES = (torch.float32, torch.bfloat16)


def make_input(*shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2,), (3, 34), (2, 5, 66), (2, 3, 7, 640)])
def test_native_meets_the_gate(shape, dtype):
    gates.check(geglu, {"x": make_input(*shape)}, backend="native", dtype=dtype)


@given(rows=st.integers(1, 40), width=st.integers(1, 70), dtype=st.sampled_from(DTYPES))
@settings(max_examples=20, deadline=None)
def test_native_meets_the_gate_at_drawn_shapes(rows, width, dtype):
    gates.check(geglu, {"x": make_input(rows, 2 * width)}, backend="native", dtype=dtype)


def test_native_reads_strided_rows_in_place():
    wide = make_input(6, 100).float()
    torch.testing.assert_close(
        geglu(wide[:, 10:50], backend="native"), geglu(wide[:, 10:50], backend="reference")
    )


def test_native_erf_is_exact_over_the_whole_range():
    gate = torch.linspace(-12, 12, 20001)
    x = torch.stack([torch.ones_like(gate), gate], dim=-1)
    truth = geglu(x.double(), backend="reference")
    error = (geglu(x, backend="native").double() - truth).abs()
    assert (error <= 1e-6 * truth.abs().clamp(min=1)).all()


def test_gradcheck():
    x = make_input(3, 10).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: geglu(x, backend="native"), x)


def test_opcheck():
    x = make_input(3, 10).float().requires_grad_()
    geglu(x, backend="native")
    torch.library.opcheck(torch.ops.unianimate.geglu_native, (x,))


def test_compiles_without_a_graph_break():
    x = make_input(3, 10).float()
    compiled = torch.compile(geglu, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), geglu(x))


def test_autocast_casts_the_input():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert geglu(make_input(3, 10).float()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(3, 5), ValueError, "last axis of x must be even"),
        (torch.zeros(0, 4), ValueError, "empty axis"),
        (torch.zeros(3, 4, dtype=torch.int32), TypeError, "float32"),
        (torch.zeros(4, 6).t(), ValueError, "stride 1"),
    ],
)
def test_bad_input_is_refused(x, error, message):
    with pytest.raises(error, match=message):
        geglu(x)
