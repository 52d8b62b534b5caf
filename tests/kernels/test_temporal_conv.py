import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv3d

from unianimate_kernels import BackendError, temporal_conv

DTYPES = (torch.float32, torch.bfloat16)


def make_inputs(batch, channels, frames, height, width, out, bias=True, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    x = draw(batch, channels, frames, height, width)
    return {
        "x": x.contiguous(memory_format=torch.channels_last_3d),
        "weight": draw(out, channels, 3, 1, 1) / (3 * channels) ** 0.5,
        "bias": draw(out) if bias else None,
    }


def test_reference_is_the_sum_over_three_frames():
    inputs = make_inputs(2, 3, 4, 2, 2, 5)
    x, weight, bias = inputs.values()
    wanted = bias[:, None, None, None] + torch.zeros(2, 5, 4, 2, 2)
    for f in range(4):
        for tap in range(3):
            if 0 <= f + tap - 1 < 4:
                products = weight[None, :, :, tap] * x[:, None, :, f + tap - 1]
                wanted[:, :, f] += products.sum(2)
    torch.testing.assert_close(temporal_conv(**inputs, backend="reference"), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 16, 17, 33])
def test_native_meets_the_gate(frames, dtype):
    inputs = make_inputs(2, 20, frames, 3, 2, 36)
    gates.check(temporal_conv, inputs, backend="native", dtype=dtype)


@pytest.mark.parametrize("bias", [True, False])
def test_native_meets_the_gate_over_several_panels_and_runs(bias):
    inputs = make_inputs(1, 100, 3, 10, 20, 130, bias)
    gates.check(temporal_conv, inputs, backend="native", dtype=torch.float32)


@given(
    sizes=st.tuples(*(st.integers(1, most) for most in (3, 40, 9, 4, 4, 70))),
    bias=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=20, deadline=None)
def test_native_meets_the_gate_at_drawn_shapes(sizes, bias, dtype):
    gates.check(temporal_conv, make_inputs(*sizes, bias), backend="native", dtype=dtype)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_other_memory_formats_and_crops_are_taken(backend):
    inputs = make_inputs(2, 6, 5, 4, 4, 7)
    for x in (inputs["x"].contiguous(), inputs["x"][:, :, 1:4, ::2, 1:], inputs["x"].mT):
        case = {**inputs, "x": x}
        gates.check(temporal_conv, case, backend=backend, dtype=torch.float32)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_channels_last_is_kept(backend):
    inputs = make_inputs(2, 6, 5, 4, 4, 7, dtype=torch.float32)
    y = temporal_conv(**inputs, backend=backend)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


def test_native_gradients_do_not_depend_on_the_threads():
    inputs = make_inputs(1, 100, 3, 5, 20, 70, dtype=torch.float32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gates.run(temporal_conv, inputs, backend="native")
    finally:
        torch.set_num_threads(threads)
    two = gates.run(temporal_conv, inputs, backend="native")
    assert torch.equal(one["output"], two["output"])
    assert torch.equal(one["grad of weight"], two["grad of weight"])


def test_gradcheck():
    inputs = [t.requires_grad_() for t in make_inputs(1, 2, 3, 2, 1, 3).values()]
    assert torch.autograd.gradcheck(lambda *t: temporal_conv(*t, backend="native"), inputs)


@pytest.mark.parametrize("bias", [True, False])
def test_opcheck(bias):
    inputs = make_inputs(1, 4, 3, 2, 2, 5, bias, dtype=torch.float32)
    leaves = [None if t is None else t.requires_grad_() for t in inputs.values()]
    temporal_conv(*leaves, backend="native")
    torch.library.opcheck(torch.ops.unianimate.temporal_conv_native, leaves)


def compiles(backend: str) -> None:
    inputs = make_inputs(1, 4, 3, 2, 2, 5, dtype=torch.float32)
    compiled = torch.compile(temporal_conv, fullgraph=True, backend=backend)
    for of in ("native", "reference"):
        got = gates.run(compiled, inputs, backend=of)
        for name, value in gates.run(temporal_conv, inputs, backend=of).items():
            torch.testing.assert_close(got[name], value)


def test_compiles_without_a_graph_break():
    compiles("aot_eager")


@pytest.mark.slow
def test_compiles_with_inductor():
    compiles("inductor")


def test_autocast_casts_everything():
    inputs = make_inputs(1, 4, 3, 2, 2, 5, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert temporal_conv(**inputs).dtype == torch.bfloat16


def test_equals_a_three_dimensional_convolution():
    inputs = make_inputs(2, 6, 5, 3, 3, 7)
    wanted = conv3d(*inputs.values(), padding=(1, 0, 0))
    torch.testing.assert_close(temporal_conv(**inputs), wanted)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(4, 3, 2, 2)}, ValueError, r"x must be \(B, C, F, H, W\)"),
        ({"x": torch.zeros(1, 4, 0, 2, 2)}, ValueError, "x has an empty axis"),
        ({"weight": torch.zeros(5, 4, 3, 3, 1)}, ValueError, "weight must have shape"),
        ({"bias": torch.zeros(4)}, ValueError, "bias must have shape"),
        ({"weight": torch.zeros(5, 4, 3, 1, 1).bfloat16()}, TypeError, "weight is torch.bfloat16"),
        ({"backend": "triton"}, BackendError, "there is no backend 'triton'"),
    ],
)
def test_bad_calls_are_refused(change, error, message):
    inputs = make_inputs(1, 4, 3, 2, 2, 5, dtype=torch.float32)
    with pytest.raises(error, match=message):
        temporal_conv(**{**inputs, **change})
