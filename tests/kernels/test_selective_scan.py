import itertools
import sys
import types

import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scans import FRAMES, PARAMETERS, make_inputs, make_state, recurrence
from torch.nn.functional import softplus

from unianimate_kernels import BackendError, _library, selective_scan
from unianimate_kernels.selective_scan import peer

DTYPES = (torch.float32, torch.bfloat16)


def check(inputs, dtype=torch.float32, **options):
    gates.check(
        selective_scan, inputs, backend="native", dtype=dtype, parameters=PARAMETERS, **options
    )


@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize("geometric", [False, True])
def test_backends_compute_the_recurrence_of_the_paper(backend, geometric):
    inputs = make_inputs(6, batch=2, geometric=geometric)
    z = inputs.pop("z")
    state = make_state(inputs)
    for reverse in (False, True):
        y, final = recurrence(**inputs, initial_state=state, reverse=reverse)
        got = selective_scan(
            **inputs,
            z=z,
            initial_state=state,
            reverse=reverse,
            return_final_state=True,
            backend=backend,
        )
        torch.testing.assert_close(got.output, y * z / (1 + (-z).exp()), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(got.final_state, final, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frames", FRAMES)
def test_native_meets_the_gate(frames):
    for dtype, geometric in itertools.product(DTYPES, (False, True)):
        inputs = make_inputs(
            frames, batch=1 + frames % 3, width=33, d_state=16, geometric=geometric
        )
        inputs["initial_state"] = make_state(inputs)
        check(inputs, dtype, reverse=frames % 2 == 0, return_final_state=True)


@given(
    frames=st.integers(1, 40),
    batch=st.integers(1, 3),
    space=st.integers(1, 3),
    width=st.integers(2, 150),
    d_state=st.integers(2, 40),
    geometric=st.booleans(),
    full=st.booleans(),
    state=st.booleans(),
    reverse=st.booleans(),
    dt_softplus=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=25, deadline=None)
def test_native_meets_the_gate_at_drawn_shapes(frames, state, dt_softplus, dtype, **drawn):
    reverse = drawn.pop("reverse")
    inputs = make_inputs(frames, **drawn)
    if state:
        inputs["initial_state"] = make_state(inputs)
    if not dt_softplus:
        inputs["dt"] = softplus(inputs["dt"])
        inputs.pop("dt_bias", None)
    # of hundreds of draws, plain torch is exact by luck in a few: half a gate of slack for those
    options = {"dt_softplus": dt_softplus, "reverse": reverse, "return_final_state": state}
    check(inputs, dtype, slack=1.5, **options)


def test_native_without_one_optional_argument():
    for optional in ("D", "z", "dt_bias", "initial_state"):
        inputs = make_inputs(6)
        inputs["initial_state"] = make_state(inputs)
        del inputs[optional]
        check(inputs)


def test_every_instruction_set_meets_the_gate(monkeypatch):
    levels = [
        level
        for level in ("generic", "avx2", "avx512")
        if _library.has("selective_scan_forward", level)
    ]
    assert _library.cpu_level in levels
    # those this CPU runs come no later than the best one
    for level in levels[: levels.index(_library.cpu_level) + 1]:
        monkeypatch.setattr(_library, "cpu_level", level)
        for geometric in (False, True):
            check(make_inputs(17, width=21, d_state=23, geometric=geometric))


def test_native_reads_strided_views_in_place():
    """Slices of one wide projection, batch behind space in memory, parameters transposed."""
    width, d_state = 19, 6
    generator = torch.Generator().manual_seed(0)
    sizes = (width, width, width, d_state, d_state)
    wide = torch.randn(3, 2, 5, sum(sizes), generator=generator)
    x, dt, z, B, C = wide.permute(1, 2, 0, 3).split(sizes, dim=-1)
    A = -torch.rand(d_state, width, generator=generator).t()
    inputs = {"x": x, "dt": dt, "A": A, "B": B, "C": C, "z": z}
    check(inputs, reverse=True)
    dense = {name: value.contiguous() for name, value in inputs.items()}
    strided = selective_scan(**inputs, backend="native")
    assert strided.equal(selective_scan(**dense, backend="native"))


def test_an_expanded_gradient_is_taken():
    leaves = {name: value.requires_grad_() for name, value in make_inputs(4).items()}
    grads = [
        torch.autograd.grad(selective_scan(**leaves, backend=backend).sum(), list(leaves.values()))
        for backend in ("native", "reference")
    ]
    torch.testing.assert_close(*grads)


@given(
    frames=st.integers(2, 20),
    cuts=st.lists(st.integers(1, 19), min_size=1, max_size=4),
    geometric=st.booleans(),
    reverse=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_any_split_of_the_frames_gives_the_unsplit_result(frames, cuts, geometric, reverse):
    inputs = make_inputs(frames, geometric=geometric)
    inputs["initial_state"] = make_state(inputs)
    leaves = {name: value.requires_grad_() for name, value in inputs.items()}

    def scan(start, stop, state):
        cut = ("x", "dt", "B", "C", "z")
        clip = {k: v[:, start:stop] if k in cut else v for k, v in leaves.items()}
        clip["initial_state"] = state
        return selective_scan(**clip, reverse=reverse, return_final_state=True, backend="native")

    whole = scan(0, frames, leaves["initial_state"])
    bounds = sorted({0, frames, *(cut for cut in cuts if cut < frames)})
    clips = list(itertools.pairwise(bounds))
    outputs, state = {}, leaves["initial_state"]
    for start, stop in reversed(clips) if reverse else clips:
        outputs[start], state = scan(start, stop, state)
    parts = torch.cat([outputs[start] for start, _ in clips], dim=1), state
    torch.testing.assert_close(parts, tuple(whole), rtol=1e-10, atol=1e-10)
    gradients = [
        torch.autograd.grad(y.sin().sum() + h.cos().sum(), list(leaves.values()))
        for y, h in (whole, parts)
    ]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-9)


def test_a_split_in_float32_differs_by_nothing_at_all():
    inputs = gates.cast(make_inputs(17, full=False), torch.float32, PARAMETERS)
    whole = selective_scan(**inputs, return_final_state=True, backend="native")
    state, outputs = None, []
    for part in zip(*(inputs[name].split(5, dim=1) for name in ("x", "dt", "B", "C"))):
        x, dt, B, C = part
        y, state = selective_scan(
            *(x, dt, inputs["A"], B, C),
            initial_state=state,
            return_final_state=True,
            backend="native",
        )
        outputs.append(y)
    assert torch.cat(outputs, dim=1).equal(whole.output)
    assert state.equal(whole.final_state)


def test_a_gradient_through_the_state_alone():
    leaves = {name: value.requires_grad_() for name, value in make_inputs(5).items()}
    reached = {name: leaves[name] for name in ("x", "dt", "A", "B", "dt_bias")}
    grads = [
        torch.autograd.grad(
            selective_scan(**leaves, return_final_state=True, backend=backend)
            .final_state.sin()
            .sum(),
            list(reached.values()),
        )
        for backend in ("native", "reference")
    ]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("geometric", [False, True])
def test_decays_from_nothing_to_almost_one_meet_the_gate(geometric):
    inputs = make_inputs(40, width=4, geometric=geometric)
    scale = torch.tensor([300.0, 1.0, 1e-3, 1e-6], dtype=torch.float64)
    inputs["A"] = inputs["A"] * (scale if geometric else scale[:, None])
    inputs["dt"] = inputs["dt"] * 5
    check(inputs, return_final_state=True)


def test_nothing_hides_a_nan():
    for name in make_inputs(1):
        inputs = {key: value.float() for key, value in make_inputs(3, width=40).items()}
        inputs[name][..., 0] = float("nan")
        assert selective_scan(**inputs, backend="native")[..., 0].isnan().all(), name


def test_gradients_do_not_depend_on_the_threads():
    inputs = gates.cast(make_inputs(9, batch=3, space=50), torch.float32, PARAMETERS)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(gates.run(selective_scan, inputs, backend="native"))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(value.equal(result[name]) for name, value in results[0].items())


@pytest.mark.parametrize("geometric", [False, True])
def test_gradcheck(geometric):
    inputs = make_inputs(4, space=1, width=2, d_state=5, geometric=geometric)
    inputs["initial_state"] = make_state(inputs)

    def scan(*tensors):
        arguments = dict(zip(inputs, tensors))
        return tuple(selective_scan(**arguments, return_final_state=True, backend="native"))

    leaves = [value.requires_grad_() for value in inputs.values()]
    assert torch.autograd.gradcheck(scan, leaves)


@pytest.mark.parametrize("full", [False, True])
def test_opcheck(full):
    inputs = make_inputs(4, full=full)
    selective_scan(**inputs, backend="native")
    tensors = [inputs.get(n) for n in ("x", "dt", "A", "B", "C", "D", "z", "dt_bias")]
    tensors.append(make_state(inputs) if full else None)
    tensors = [None if t is None else t.float().requires_grad_() for t in tensors]
    torch.library.opcheck(torch.ops.unianimate.selective_scan_native, (*tensors, True, False, full))


@pytest.mark.parametrize(
    "compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
def test_compiles_without_a_graph_break(compiler):
    torch.compiler.reset()
    inputs = {name: value.float() for name, value in make_inputs(5).items()}
    compiled = torch.compile(selective_scan, fullgraph=True, backend=compiler)
    got = gates.run(compiled, inputs, return_final_state=True)
    want = gates.run(selective_scan, inputs, return_final_state=True, backend="native")
    torch.testing.assert_close(got, want)


def test_autocast_casts_activations_and_keeps_parameters():
    inputs = {name: value.float() for name, value in make_inputs(5).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = selective_scan(**inputs, return_final_state=True)
    assert result.output.dtype == torch.bfloat16
    assert result.final_state.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": torch.zeros(4, 2, 5)}, ValueError, r"x must be \(B, F, S, D\)"),
        ({"x": torch.zeros(1, 0, 2, 5)}, ValueError, "x has an empty axis"),
        ({"x": torch.zeros(1, 4, 2, 5, dtype=torch.int64)}, TypeError, "x must be float32"),
        ({"dt": torch.zeros(1, 4, 2, 5).bfloat16()}, TypeError, "give both the same dtype"),
        ({"dt": torch.zeros(1, 4, 2, 6)}, ValueError, r"dt must have shape \(1, 4, 2, 5\)"),
        ({"A": torch.zeros(5, 4)}, ValueError, r"A must have shape \(5, 3\)"),
        ({"A": torch.zeros(5, 3).bfloat16()}, TypeError, "A must be torch.float32"),
        ({"C": torch.zeros(1, 4, 2, 4)}, ValueError, r"C must have shape \(1, 4, 2, 3\)"),
        ({"dt": None}, TypeError, "dt must be a tensor, got NoneType"),
        ({"A": None}, TypeError, "A must be a tensor, got NoneType"),
        ({"C": None}, TypeError, "C must be a tensor, got NoneType"),
        ({"z": torch.zeros(1, 4, 5, 2).mT}, ValueError, "last axis of z must have stride 1"),
        ({"D": torch.zeros(4)}, ValueError, r"D must have shape \(5,\)"),
        ({"dt_bias": torch.zeros(5, device="meta")}, ValueError, "dt_bias is on meta"),
        ({"initial_state": torch.zeros(1, 2, 5, 4)}, ValueError, r"\(1, 2, 5, 3\)"),
        ({"backend": "mamba_ssm"}, BackendError, "it takes cuda tensors, got cpu"),
    ],
)
def test_bad_arguments_are_refused(changes, error, message):
    inputs = {name: value.float() for name, value in make_inputs(4).items()}
    with pytest.raises(error, match=message):
        selective_scan(**{**inputs, **changes})


@pytest.fixture
def mamba_ssm(monkeypatch):
    """Mamba-ssm's function over (batch, width, frames), answered by our reference."""

    def selective_scan_fn(
        u, delta, A, B, C, D, z, delta_bias, *, delta_softplus, return_last_state
    ):
        assert return_last_state
        x, dt, B, C, z = (
            None if tensor is None else tensor.transpose(1, 2)[:, :, None].contiguous()
            for tensor in (u, delta, B, C, z)
        )
        output, state = selective_scan(
            *(x, dt, A, B, C, D, z, delta_bias),
            dt_softplus=delta_softplus,
            return_final_state=True,
            backend="reference",
        )
        return output[:, :, 0].transpose(1, 2), state[:, 0]

    module = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = selective_scan_fn
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def call_peer(inputs, *, reverse=False, initial_state=None, return_final_state=False):
    order = ("x", "dt", "A", "B", "C", "D", "z", "dt_bias")
    tensors = (inputs.get(name) for name in order)
    return peer.forward(*tensors, True, reverse, initial_state, return_final_state)


@pytest.mark.parametrize("full", [False, True])
def test_the_peer_is_given_its_own_layout(mamba_ssm, full):
    inputs = make_inputs(5, batch=2, space=3, geometric=full, full=full)
    want = selective_scan(**inputs, reverse=full, return_final_state=True, backend="reference")
    got = call_peer(inputs, reverse=full, return_final_state=True)
    torch.testing.assert_close(got, tuple(want))


def test_the_peer_refuses_what_it_cannot_compute(mamba_ssm):
    inputs = make_inputs(2)
    with pytest.raises(BackendError, match="takes no initial_state"):
        call_peer(inputs, initial_state=make_state(inputs))
    with pytest.raises(BackendError, match="at most 256 states, got 257"):
        call_peer(make_inputs(2, d_state=257))
    inputs["x"].requires_grad_()
    with pytest.raises(BackendError, match="no gradient of the final state"):
        call_peer(inputs, return_final_state=True)
    assert call_peer(inputs)[0].requires_grad
