import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv3d

from unianimate_kernels import temporal_conv

DTYPES = (torch.float32, torch.bfloat16)


def make_inputs(batch=1, width=8, frames=5, height=3, space_width=2, out=None, bias=True):
    generator = torch.Generator().manual_seed(0)
    out = width if out is None else out

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = random(batch, width, frames, height, space_width)
    inputs = {
        "x": x.contiguous(memory_format=torch.channels_last_3d),
        "weight": random(out, width, 3, 1, 1) / (3 * width) ** 0.5,
    }
    return {**inputs, "bias": random(out)} if bias else inputs


def test_the_reference_is_a_conv3d():
    inputs = make_inputs(2, 6, 4)
    wanted = conv3d(inputs["x"], inputs["weight"], inputs["bias"], padding=(1, 0, 0))
    torch.testing.assert_close(temporal_conv(**inputs, backend="reference"), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 17, 33])
def test_native_meets_the_gate(frames, dtype):
    gates.check(temporal_conv, make_inputs(2, 37, frames), backend="native", dtype=dtype)


def test_the_weight_gradient_sums_many_rows_without_losing_digits():
    inputs = make_inputs(1, 100, 6, 10, 10, out=130)
    gates.check(temporal_conv, inputs, backend="native", dtype=torch.float32)


@given(
    batch=st.integers(1, 3),
    width=st.integers(1, 70),
    out=st.integers(1, 70),
    frames=st.integers(1, 6),
    height=st.integers(1, 7),
    dtype=st.sampled_from(DTYPES),
    bias=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_native_meets_the_gate_at_drawn_shapes(batch, width, out, frames, height, dtype, bias):
    inputs = make_inputs(batch, width, frames, height, 3, out, bias)
    gates.check(temporal_conv, inputs, backend="native", dtype=dtype)


VIEWS = {
    "channels": lambda wide: wide[:, 4:12],
    "frames": lambda wide: wide[:, :, ::2],
    "columns": lambda wide: wide[..., 1:3],
    "contiguous": lambda wide: wide[:, :8].contiguous(),
}


@pytest.mark.parametrize("view", VIEWS)
def test_native_takes_strided_views(view):
    x = VIEWS[view](make_inputs(2, 40, 6, 4, 4)["x"])
    inputs = {**make_inputs(2, x.shape[1]), "x": x}
    gates.check(temporal_conv, inputs, backend="native", dtype=torch.float32)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_channels_last_stays_channels_last(backend):
    inputs = gates.cast(make_inputs(2), torch.float32, frozenset())
    y = temporal_conv(**inputs, backend=backend)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("batch", "channels"), [(1, 8), (2, 8), (1, 320)])
def test_the_form_that_torch_is_given_changes_nothing(threads, batch, channels):
    # 320 channels are enough for a single clip to be left to oneDNN, if there are threads
    x = torch.randn(batch, 6, 12, 2, channels).permute(0, 4, 1, 2, 3)
    weight, bias = torch.randn(8, channels, 3, 1, 1) / channels, torch.randn(8)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = temporal_conv(x, weight, bias, backend="reference")
    finally:
        torch.set_num_threads(before)
    double = (tensor.double() for tensor in (x, weight, bias))
    wanted = torch.nn.functional.conv3d(*double, padding=(1, 0, 0))
    torch.testing.assert_close(y.double(), wanted, rtol=1e-5, atol=1e-5)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


def test_gradcheck():
    inputs = make_inputs(1, 3, 3)
    leaves = [tensor.requires_grad_() for tensor in inputs.values()]
    assert torch.autograd.gradcheck(lambda *t: temporal_conv(*t, backend="native"), leaves)


def test_opcheck():
    inputs = gates.cast(make_inputs(2), torch.float32, frozenset())
    temporal_conv(**inputs, backend="native")
    arguments = tuple(tensor.requires_grad_() for tensor in inputs.values())
    torch.library.opcheck(torch.ops.unianimate.temporal_conv_native, arguments)
    x, weight, _ = (tensor.detach() for tensor in arguments)
    backward = torch.ops.unianimate.temporal_conv_native_backward
    torch.library.opcheck(backward, (torch.ones_like(x), x, weight))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_without_a_graph_break(backend):
    inputs = gates.cast(make_inputs(2), torch.float32, frozenset())
    compiled = torch.compile(temporal_conv, fullgraph=True, backend=backend)
    torch.testing.assert_close(
        compiled(**inputs, backend="native"), temporal_conv(**inputs, backend="reference")
    )


def test_autocast_casts_input_and_weights():
    inputs = gates.cast(make_inputs(), torch.float32, frozenset())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert temporal_conv(**inputs).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": torch.zeros(2, 8, 3, 4)}, ValueError, r"x must be \(B, C, F, H, W\), got"),
        ({"x": torch.zeros(2, 8, 0, 4, 4)}, ValueError, "x has an empty axis"),
        ({"weight": torch.zeros(8, 8, 3, 1)}, ValueError, r"weight must be \(C_out, C, 3, 1, 1\)"),
        ({"weight": torch.zeros(8, 7, 3, 1, 1)}, ValueError, r"must have shape \(8, 8, 3, 1, 1\)"),
        ({"weight": None}, TypeError, "weight must be a tensor, got NoneType"),
        ({"bias": torch.zeros(7)}, ValueError, r"bias must have shape \(8,\)"),
        ({"bias": torch.zeros(8).double()}, TypeError, "bias is torch.float64 and x is"),
    ],
)
def test_bad_input_is_refused(changes, error, message):
    inputs = gates.cast(make_inputs(), torch.float32, frozenset())
    with pytest.raises(error, match=message):
        temporal_conv(**{**inputs, **changes})
