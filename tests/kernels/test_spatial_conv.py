import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from unianimate.blocks import ResnetBlock
from unianimate_kernels import BackendError, _library, spatial_conv, use_backend

FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16
DTYPES = [FLOAT32, BFLOAT16]
# the code for this CPU, and that for older ones which it runs too
LEVELS = ["avx512", "avx2"] if _library.cpu_level == "avx512" else [_library.cpu_level]


def make_inputs(items=2, height=5, width=6, dim=30, out=34, bias=True):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = {
        "x": random(items, height, width, dim).permute(0, 3, 1, 2),
        "weight": random(out, dim, 3, 3) / (9 * dim) ** 0.5,
    }
    return {**inputs, "bias": random(out)} if bias else inputs


def single(**sizes):
    return gates.cast(make_inputs(**sizes), FLOAT32, frozenset())


def check(inputs, dtype):
    # what the CPU's memory held before must not show
    torch.empty(1 << 20).fill_(torch.nan)
    gates.check(spatial_conv, inputs, backend="native", dtype=dtype, gradients=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("items", "height", "width", "dim", "out"),
    [
        (1, 1, 1, 1, 1),
        (1, 2, 2, 16, 32),
        (3, 1, 7, 5, 33),
        (2, 8, 3, 64, 31),
        (2, 3, 10, 33, 64),
        (1, 6, 5, 70, 47),
        (17, 4, 3, 96, 96),
        (1, 33, 17, 40, 70),
        (2, 12, 8, 300, 20),
    ],
)
def test_native_meets_the_gate(items, height, width, dim, out, level, dtype, monkeypatch):
    monkeypatch.setattr(_library, "cpu_level", level)
    check(make_inputs(items, height, width, dim, out), dtype)


@given(
    items=st.integers(1, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    dim=st.integers(1, 70),
    # of a few results the largest may be a small sum of large terms, and the gate with it
    out=st.integers(6, 70),
    bias=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=50, deadline=None)
def test_native_meets_the_gate_at_drawn_shapes(items, height, width, dim, out, bias, dtype):
    check(make_inputs(items, height, width, dim, out, bias), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_far_from_zero_lose_no_more_than_in_torch(dtype):
    inputs = make_inputs(3, 16, 12, 96, 96)
    check({**inputs, "x": inputs["x"] + 100}, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_input_is_read_in_place(dtype):
    inputs = gates.cast(make_inputs(), dtype, frozenset())
    x, weight = inputs["x"], inputs["weight"]
    wide = torch.full((2, 7, 8, 50), torch.nan, dtype=dtype)
    wide[:, 1:6, 1:7, 10:40] = x.permute(0, 2, 3, 1)
    with torch.no_grad():
        want = spatial_conv(**inputs, backend="native")
        assert want.is_contiguous(memory_format=torch.channels_last)
        cut = wide[:, 1:6, 1:7, 10:40].permute(0, 3, 1, 2)
        last = weight.contiguous(memory_format=torch.channels_last)
        apart = torch.stack([weight, weight], dim=-1)[..., 0]
        for changed in ({"x": cut}, {"x": x.contiguous()}, {"weight": last}, {"weight": apart}):
            got = spatial_conv(**{**inputs, **changed}, backend="native")
            assert torch.equal(got, want), changed.keys()


def test_the_number_of_threads_changes_no_bit():
    inputs, threads = single(), torch.get_num_threads()
    results = []
    try:
        with torch.no_grad():
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                results.append(spatial_conv(**inputs, backend="native"))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_double_precision_is_left_to_torch():
    inputs = make_inputs(32, 16, 16)
    with torch.no_grad():
        want = conv2d(inputs["x"], inputs["weight"], inputs["bias"], padding=1)
        assert torch.equal(spatial_conv(**inputs), want)
        with pytest.raises(BackendError, match="it takes bfloat16, float32, got"):
            spatial_conv(**inputs, backend="native")


@pytest.mark.parametrize(("size", "native"), [((32, 16, 12), True), ((1, 4, 3), False)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_pictures_are_left_to_torch(size, native, dtype):
    inputs = gates.cast(make_inputs(*size), dtype, frozenset())

    def ran(**options):
        with torch.no_grad(), torch.profiler.profile() as profile:
            spatial_conv(**inputs, **options)
        return any("spatial_conv_native" in event.key for event in profile.key_averages())

    assert ran() is native
    assert ran(backend="native") and not ran(backend="reference")
    with use_backend(spatial_conv="native"):
        assert ran()


@pytest.mark.parametrize("name", ["x", "weight", "bias"])
def test_a_gradient_is_never_missing(name):
    inputs = single()
    inputs[name].requires_grad_()
    with pytest.raises(BackendError, match="it has no gradient"):
        spatial_conv(**inputs, backend="native")
    (gradient,) = torch.autograd.grad(spatial_conv(**inputs).sum(), inputs[name])
    assert gradient.isfinite().all()


def test_a_block_trains_where_ops_are_bound_to_it():
    block, x = ResnetBlock(32, temporal_conv=False), torch.randn(1, 32, 2, 4, 4)
    with use_backend(spatial_conv="native"):
        block(x).sum().backward()
        with torch.no_grad():
            assert block(x).isfinite().all()
    assert all(p.grad is not None for p in block.parameters())


def test_opcheck():
    inputs = single()
    with torch.no_grad():
        spatial_conv(**inputs, backend="native")  # registers it
        registered = torch.ops.unianimate.spatial_conv_native.default
        torch.library.opcheck(registered, tuple(inputs.values()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiles_without_a_graph_break(dtype):
    inputs = gates.cast(make_inputs(32, 16, 12), dtype, frozenset())
    with torch.no_grad():
        compiled = torch.compile(spatial_conv, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(**inputs), spatial_conv(**inputs))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": torch.zeros(30, 5, 6)}, ValueError, r"x must be \(N, C, H, W\)"),
        ({"x": torch.zeros(2, 30, 0, 6)}, ValueError, "empty axis"),
        ({"weight": torch.zeros(34, 30, 3)}, ValueError, r"weight must be \(C_out, C, 3, 3\)"),
        ({"weight": torch.zeros(34, 29, 3, 3)}, ValueError, "weight must have shape"),
        ({"bias": torch.zeros(33)}, ValueError, "bias must have shape"),
        ({"bias": torch.zeros(34).half()}, TypeError, "bias is torch.float16"),
    ],
)
def test_bad_input_is_refused(changed, error, message):
    with pytest.raises(error, match=message):
        spatial_conv(**{**single(), **changed})
