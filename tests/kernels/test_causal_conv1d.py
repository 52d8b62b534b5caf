import cuda_emulation
import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unianimate_kernels import BackendError, causal_conv1d

DTYPES = (torch.float32, torch.bfloat16)
STATE = frozenset({"initial_state"})


def make_inputs(batch=1, frames=5, space=3, width=20, taps=4, bias=True, state=False):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = {"x": random(batch, frames, space, width), "weight": random(width, taps)}
    if bias:
        inputs["bias"] = random(width)
    if state:
        inputs["initial_state"] = random(batch, space, taps - 1, width)
    return inputs


def by_hand(x, weight, bias=None, initial_state=None, *, reverse=False, silu=True):
    """The sum of the docstring, frame by frame and tap by tap."""
    batch, frames, space, width = x.shape
    taps = weight.shape[1]
    state = x.new_zeros(batch, space, taps - 1, width) if initial_state is None else initial_state
    y = torch.zeros_like(x)
    for f in range(frames):
        for w in range(taps):
            source = f + (taps - 1) - w if reverse else f - (taps - 1) + w
            if 0 <= source < frames:
                term = x[:, source]
            elif reverse:
                term = state[:, :, source - frames]
            else:
                term = state[:, :, source + taps - 1]
            y[:, f] += weight[:, w] * term
    y = y if bias is None else y + bias
    return y * torch.sigmoid(y) if silu else y


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("taps", [1, 2, 4, 7])
def test_the_reference_is_the_sum_of_the_docstring(taps, reverse):
    inputs = make_inputs(2, 5, taps=taps, state=True)
    for activation in ("silu", None):
        torch.testing.assert_close(
            causal_conv1d(**inputs, reverse=reverse, activation=activation, backend="reference"),
            by_hand(**inputs, reverse=reverse, silu=activation == "silu"),
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 17, 33, 97])
def test_native_meets_the_gate(frames, dtype):
    inputs = make_inputs(2, frames, width=35)
    gates.check(causal_conv1d, inputs, backend="native", dtype=dtype)


@given(
    batch=st.integers(1, 3),
    frames=st.integers(1, 9),
    space=st.integers(1, 9),
    width=st.integers(1, 70),
    taps=st.integers(1, 6),
    bias=st.booleans(),
    reverse=st.booleans(),
    activation=st.sampled_from(["silu", None]),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=30, deadline=None)
def test_native_meets_the_gate_at_drawn_shapes(
    batch, frames, space, width, taps, bias, reverse, activation, dtype
):
    gates.check(
        causal_conv1d,
        make_inputs(batch, frames, space, width, taps, bias, state=True),
        backend="native",
        dtype=dtype,
        parameters=STATE,
        reverse=reverse,
        activation=activation,
        return_final_state=True,
    )


@pytest.mark.skipif(
    cuda_emulation.skip_reason() is not None, reason=str(cuda_emulation.skip_reason())
)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", cuda_emulation.DTYPES)
@pytest.mark.parametrize(
    "shape", [{}, {"width": 7, "taps": 3}, {"taps": 1}, {"frames": 2, "width": 300}], ids=str
)
def test_the_cuda_code_meets_the_gate(shape, dtype, reverse):
    inputs = make_inputs(**{"batch": 2, "space": 2, **shape}, state=True)
    with cuda_emulation.emulated("causal_conv1d"):
        gates.check(
            causal_conv1d,
            inputs,
            backend="native",
            dtype=dtype,
            parameters=STATE,
            reverse=reverse,
            return_final_state=True,
        )


def test_native_reads_strided_frames_and_channels_in_place():
    inputs = make_inputs(2, 6, 4, 20)
    wide = torch.randn(2, 12, 4, 50, dtype=torch.float64)
    inputs["x"] = wide[:, ::2, :, 7:27]
    gates.check(causal_conv1d, inputs, backend="native", dtype=torch.float32)
    inputs["x"] = wide[..., :20].transpose(0, 2)[:, :6]
    gates.check(causal_conv1d, inputs, backend="native", dtype=torch.float32)


@pytest.mark.parametrize("backend", ["native", "reference"])
@given(
    frames=st.integers(2, 9),
    data=st.data(),
    taps=st.integers(1, 5),
    reverse=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_any_split_of_the_frames_gives_the_unsplit_result(backend, frames, data, taps, reverse):
    cut = data.draw(st.integers(1, frames - 1))
    inputs = gates.cast(make_inputs(1, frames, taps=taps, state=True), torch.float32, STATE)
    leaves = {name: tensor.requires_grad_() for name, tensor in inputs.items()}
    options = {"reverse": reverse, "return_final_state": True, "backend": backend}
    whole, state = causal_conv1d(**leaves, **options)

    x, first, second = leaves["x"], slice(0, cut), slice(cut, None)
    if reverse:
        first, second = second, first
    rest = {"weight": leaves["weight"], "bias": leaves["bias"], **options}
    a, middle = causal_conv1d(x[:, first], initial_state=leaves["initial_state"], **rest)
    b, last = causal_conv1d(x[:, second], initial_state=middle, **rest)
    joined = torch.cat([b, a] if reverse else [a, b], dim=1)
    torch.testing.assert_close(joined, whole, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(last, state)

    cotangent = torch.randn_like(whole)
    wanted = torch.autograd.grad((whole * cotangent).sum() + state.sum(), list(leaves.values()))
    got = torch.autograd.grad((joined * cotangent).sum() + last.sum(), list(leaves.values()))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradcheck(reverse):
    leaves = [t.requires_grad_() for t in make_inputs(1, 3, 2, 3, state=True).values()]

    def call(x, weight, bias, state):
        return causal_conv1d(
            x, weight, bias, initial_state=state, reverse=reverse, backend="native"
        )

    assert torch.autograd.gradcheck(call, leaves)


def test_opcheck():
    inputs = gates.cast(make_inputs(2, state=True), torch.float32, STATE)
    causal_conv1d(**inputs, backend="native")
    x, weight, bias, state = (tensor.requires_grad_() for tensor in inputs.values())
    op = torch.ops.unianimate.causal_conv1d_native
    torch.library.opcheck(op, (x, weight, bias, True, False, state))
    torch.library.opcheck(op, (x, weight, None, False, True, None))


@pytest.mark.parametrize(
    "compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
def test_compiles_without_a_graph_break(compiler):
    inputs = gates.cast(make_inputs(2, state=True), torch.float32, STATE)
    compiled = torch.compile(causal_conv1d, fullgraph=True, backend=compiler)
    torch.testing.assert_close(
        compiled(**inputs, return_final_state=True, backend="native"),
        causal_conv1d(**inputs, return_final_state=True, backend="reference"),
    )


def test_autocast_casts_activations_and_keeps_the_state_float32():
    inputs = gates.cast(make_inputs(state=True), torch.float32, STATE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = causal_conv1d(**inputs, return_final_state=True)
    assert (output.dtype, state.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_state_cut_out_of_a_clip_gets_its_gradient(backend):
    # its axes are in another order in memory than those of a state of its own
    clip = make_inputs(2, 7)["x"]
    inputs = {**make_inputs(2), "initial_state": clip[:, -3:].transpose(1, 2)}
    gates.check(causal_conv1d, inputs, backend=backend, dtype=torch.float32, parameters=STATE)


def test_more_taps_than_native_has_go_to_the_reference():
    inputs = gates.cast(make_inputs(taps=70), torch.float32, STATE)
    assert causal_conv1d(**inputs).shape == inputs["x"].shape
    with pytest.raises(BackendError, match="on cpu it takes up to 64 taps, got 70"):
        causal_conv1d(**inputs, backend="native")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": torch.zeros(2, 5, 20)}, ValueError, r"x must be \(B, F, S, D\), got shape"),
        ({"x": torch.zeros(1, 0, 3, 20)}, ValueError, "x has an empty axis"),
        ({"x": torch.zeros(1, 5, 20, 3).transpose(2, 3)}, ValueError, "must have stride 1"),
        ({"weight": torch.zeros(19, 4)}, ValueError, r"weight must have shape \(20, 4\)"),
        ({"bias": torch.zeros(20).bfloat16()}, TypeError, "bias is torch.bfloat16 and x is"),
        ({"initial_state": torch.zeros(1, 3, 4, 20)}, ValueError, r"shape \(1, 3, 3, 20\)"),
        ({"initial_state": torch.zeros(1, 3, 3, 20).half()}, TypeError, "must be torch.float32"),
        ({"weight": None}, TypeError, "weight must be a tensor, got NoneType"),
        ({"activation": "gelu"}, ValueError, "activation must be 'silu' or None, got 'gelu'"),
    ],
)
def test_bad_input_is_refused(changes, error, message):
    inputs = gates.cast(make_inputs(), torch.float32, STATE)
    with pytest.raises(error, match=message):
        causal_conv1d(**{**inputs, **changes})
