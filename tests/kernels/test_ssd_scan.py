import itertools
import sys
import types

import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from unianimate_kernels import BackendError, _dispatch, ssd_scan
from unianimate_kernels.ssd_scan import api, peer

DTYPES = (torch.float32, torch.bfloat16)
PARAMETERS = frozenset({"A", "D", "dt_bias", "initial_state"})
FRAMES = (1, 2, 3, 4, 5, 15, 16, 17, 33, 65, 97)


def make_inputs(
    frames, *, batch=1, space=2, heads=2, width=5, groups=1, d_state=3, full=True, seed=0
):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = {
        "x": normal(batch, frames, space, heads, width),
        "dt": normal(batch, frames, space, heads) - 1,
        "A": -normal(heads).exp(),
        "B": normal(batch, frames, space, groups, d_state),
        "C": normal(batch, frames, space, groups, d_state),
    }
    if full:
        inputs["D"] = normal(heads)
        inputs["z"] = normal(batch, frames, space, heads, width)
        inputs["dt_bias"] = normal(heads)
        inputs["initial_state"] = normal(batch, space, heads, width, d_state)
    return inputs


def recurrence(x, dt, A, B, C, D, z, dt_bias, initial_state, reverse):
    """Mamba-2 as the paper writes it: one head, one location, one frame at a time."""
    batch, frames, space, heads, _ = x.shape
    y, states = torch.zeros_like(x), initial_state.clone()
    order = range(frames - 1, -1, -1) if reverse else range(frames)
    for b in range(batch):
        for s in range(space):
            for h in range(heads):
                g = h // (heads // B.shape[3])
                state = initial_state[b, s, h]
                for f in order:
                    delta = (dt[b, f, s, h] + dt_bias[h]).exp().log1p()
                    decay = (delta * A[h]).exp()
                    state = decay * state + delta * torch.outer(x[b, f, s, h], B[b, f, s, g])
                    read = state @ C[b, f, s, g] + D[h] * x[b, f, s, h]
                    gate = z[b, f, s, h]
                    y[b, f, s, h] = read * gate / (1 + (-gate).exp())
                states[b, s, h] = state
    return y, states


@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize("reverse", [False, True])
def test_backends_compute_the_recurrence_of_the_paper(backend, reverse):
    inputs = make_inputs(9, batch=2, heads=4, groups=2)
    want = recurrence(**inputs, reverse=reverse)
    got = ssd_scan(
        **inputs, reverse=reverse, chunk_size=4, return_final_state=True, backend=backend
    )
    torch.testing.assert_close(got.output, want[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got.final_state, want[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frames", FRAMES)
def test_native_meets_the_gate(frames):
    for dtype in DTYPES:
        inputs = make_inputs(frames, heads=2, width=19, d_state=17, batch=1 + frames % 3)
        gates.check(
            ssd_scan,
            inputs,
            backend="native",
            dtype=dtype,
            parameters=PARAMETERS,
            reverse=frames % 2 == 0,
            return_final_state=True,
        )


@given(
    frames=st.integers(1, 40),
    batch=st.integers(1, 3),
    space=st.integers(1, 3),
    groups=st.integers(1, 3),
    shared=st.integers(1, 3),
    width=st.integers(1, 40),
    d_state=st.integers(1, 40),
    chunk_size=st.none() | st.integers(1, 12),
    full=st.booleans(),
    reverse=st.booleans(),
    dt_softplus=st.booleans(),
    return_final_state=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=25, deadline=None)
def test_native_meets_the_gate_at_drawn_shapes(
    frames, batch, space, groups, shared, width, d_state, full, dt_softplus, dtype, **options
):
    inputs = make_inputs(
        frames,
        batch=batch,
        space=space,
        heads=groups * shared,
        groups=groups,
        width=width,
        d_state=d_state,
        full=full,
    )
    if not dt_softplus:
        inputs["dt"] = inputs["dt"].abs()
        if full:
            inputs["dt_bias"] = inputs["dt_bias"].abs()
    gates.check(
        ssd_scan,
        inputs,
        backend="native",
        dtype=dtype,
        parameters=PARAMETERS,
        dt_softplus=dt_softplus,
        # with a single head the gradient of A is one sum, which plain torch may hit by luck
        slack=4,
        **options,
    )


@pytest.mark.parametrize("optional", ["D", "z", "dt_bias", "initial_state"])
def test_native_without_one_optional_argument(optional):
    inputs = make_inputs(6)
    del inputs[optional]
    gates.check(
        ssd_scan, inputs, backend="native", dtype=torch.float32, parameters=PARAMETERS, chunk_size=4
    )


def test_a_clip_longer_than_one_chunk_meets_the_gate():
    gates.check(
        ssd_scan,
        make_inputs(150, full=False),
        backend="native",
        dtype=torch.float32,
        parameters=PARAMETERS,
    )


def test_native_reads_strided_views_in_place():
    """Slices of one wide projection, and batch behind space in memory."""
    batch, frames, space, heads, width, d_state = 2, 5, 3, 2, 6, 4
    generator = torch.Generator().manual_seed(0)
    sizes = (heads * width, heads * width, d_state, d_state, heads)
    wide = torch.randn(space, batch, frames, sum(sizes), generator=generator)
    x, z, B, C, dt = wide.permute(1, 2, 0, 3).split(sizes, dim=-1)
    inputs = {
        "x": x.unflatten(-1, (heads, width)),
        "dt": dt,
        "A": -torch.rand(heads, generator=generator),
        "B": B.unflatten(-1, (1, d_state)),
        "C": C.unflatten(-1, (1, d_state)),
        "z": z.unflatten(-1, (heads, width)),
    }
    gates.check(
        ssd_scan, inputs, backend="native", dtype=torch.float32, parameters=PARAMETERS, reverse=True
    )
    dense = {name: value.contiguous() for name, value in inputs.items()}
    strided = ssd_scan(**inputs, backend="native")
    assert strided.equal(ssd_scan(**dense, backend="native"))


def clip_of(inputs, start, stop):
    return {
        name: value[:, start:stop] if name in ("x", "dt", "B", "C", "z") else value
        for name, value in inputs.items()
    }


def run_split(inputs, cuts, *, reverse, backend):
    """Scan clip after clip, the state carried, as one clip would be."""
    bounds = sorted({0, inputs["x"].shape[1], *cuts})
    clips = list(itertools.pairwise(bounds))
    outputs, state = {}, inputs["initial_state"]
    for start, stop in reversed(clips) if reverse else clips:
        clip = {**clip_of(inputs, start, stop), "initial_state": state}
        outputs[start], state = ssd_scan(
            **clip, reverse=reverse, return_final_state=True, backend=backend
        )
    return torch.cat([outputs[start] for start, _ in clips], dim=1), state


@given(
    frames=st.integers(2, 20),
    cuts=st.lists(st.integers(1, 19), min_size=1, max_size=4),
    reverse=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_any_split_of_the_frames_gives_the_unsplit_result(frames, cuts, reverse):
    leaves = {name: value.requires_grad_() for name, value in make_inputs(frames).items()}
    whole = ssd_scan(**leaves, reverse=reverse, return_final_state=True, backend="native")
    parts = run_split(
        leaves, [cut for cut in cuts if cut < frames], reverse=reverse, backend="native"
    )
    for want, got in zip(whole, parts):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    gradients = [
        torch.autograd.grad((output.sin().sum() + state.cos().sum()), list(leaves.values()))
        for output, state in (whole, parts)
    ]
    for want, got in zip(*gradients):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", ["reference", "native"])
def test_chunk_size_does_not_change_the_result(backend):
    inputs = make_inputs(13)
    want = gates.run(ssd_scan, inputs, return_final_state=True, backend="reference")
    for chunk_size in (1, 3, 4, 8, 13, 100):
        got = gates.run(
            ssd_scan, inputs, chunk_size=chunk_size, return_final_state=True, backend=backend
        )
        for name, value in want.items():
            torch.testing.assert_close(got[name], value, rtol=1e-10, atol=1e-10, msg=name)


def test_decays_from_nothing_to_almost_one_meet_the_gate():
    inputs = make_inputs(40)
    inputs["A"] = torch.tensor([-300.0, -1e-6], dtype=torch.float64)
    inputs["dt"] = inputs["dt"] * 30
    gates.check(
        ssd_scan,
        inputs,
        backend="native",
        dtype=torch.float32,
        parameters=PARAMETERS,
        return_final_state=True,
    )


def test_gradients_do_not_depend_on_the_threads():
    inputs = gates.cast(make_inputs(17, space=7), torch.float32, PARAMETERS)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(gates.run(ssd_scan, inputs, backend="native"))
    finally:
        torch.set_num_threads(threads)
    assert all(value.equal(results[1][name]) for name, value in results[0].items())


@pytest.mark.parametrize("full", [False, True])
def test_gradcheck(full):
    inputs = make_inputs(5, space=1, width=3, d_state=2, full=full)

    def scan(*tensors):
        arguments = dict(zip(inputs, tensors))
        return tuple(ssd_scan(**arguments, chunk_size=4, return_final_state=True, backend="native"))

    leaves = [value.requires_grad_() for value in inputs.values()]
    assert torch.autograd.gradcheck(scan, leaves)


def test_opcheck():
    inputs = {
        name: value.float().requires_grad_() for name, value in make_inputs(5, full=True).items()
    }
    ssd_scan(**inputs, backend="native")
    state = inputs.pop("initial_state")
    for initial_state in (state, None):
        torch.library.opcheck(
            torch.ops.unianimate.ssd_scan_native,
            (*inputs.values(), True, False, None, initial_state, True),
        )


@pytest.mark.parametrize(
    "compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
def test_compiles_without_a_graph_break(compiler):
    torch.compiler.reset()
    inputs = {name: value.float() for name, value in make_inputs(5).items()}
    compiled = torch.compile(ssd_scan, fullgraph=True, backend=compiler)
    for name, value in gates.run(ssd_scan, inputs, backend="native").items():
        torch.testing.assert_close(gates.run(compiled, inputs)[name], value, msg=name)


def test_autocast_casts_activations_and_keeps_parameters():
    inputs = {name: value.float() for name, value in make_inputs(5).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = ssd_scan(**inputs, return_final_state=True)
    assert result.output.dtype == torch.bfloat16
    assert result.final_state.dtype == torch.float32


@pytest.fixture
def mamba_ssm(monkeypatch):
    """Mamba-ssm's function over (batch, frames, heads, width), answered by our reference."""

    def mamba_chunk_scan_combined(
        *tensors, chunk_size, z, initial_states, return_final_states, **options
    ):
        x, dt, A, B, C = (t if t.dim() == 1 else t[:, :, None] for t in tensors)
        output, state = ssd_scan(
            *(x, dt, A, B, C),
            z=None if z is None else z[:, :, None],
            initial_state=None if initial_states is None else initial_states[:, None],
            chunk_size=chunk_size,
            return_final_state=return_final_states,
            backend="reference",
            **options,
        )
        return output[:, :, 0], state[:, 0]

    module = types.ModuleType("mamba_ssm.ops.triton.ssd_combined")
    module.mamba_chunk_scan_combined = mamba_chunk_scan_combined
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("full", [False, True])
def test_the_peer_is_given_its_own_layout(mamba_ssm, full):
    inputs = make_inputs(5, batch=2, space=3, full=full)
    want = ssd_scan(**inputs, reverse=full, return_final_state=True, backend="reference")
    names = ("x", "dt", "A", "B", "C", "D", "z", "dt_bias")
    options = peer_options(reverse=full, initial_state=inputs.get("initial_state"))
    got = peer.forward(*(inputs.get(name) for name in names), **options)
    for mine, theirs in zip(want, got):
        torch.testing.assert_close(theirs.to(mine.dtype), mine, rtol=1e-5, atol=1e-5)


def peer_options(**changes):
    options = {"dt_softplus": True, "reverse": False, "chunk_size": None, "initial_state": None}
    return {**options, "return_final_state": True, **changes}


def test_the_peer_refuses_a_chunk_it_cannot_take(mamba_ssm):
    inputs = make_inputs(5, full=False)
    with pytest.raises(BackendError, match="power of two"):
        peer.forward(*inputs.values(), None, None, None, **peer_options(chunk_size=24))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(1, 5, 2, 10)}, ValueError, r"x must be \(B, F, S, H, P\)"),
        ({"x": torch.zeros(1, 0, 2, 2, 5)}, ValueError, "empty axis"),
        ({"dt": torch.zeros(1, 5, 2, 3)}, ValueError, "dt must have shape"),
        ({"C": torch.zeros(1, 5, 2, 1, 4)}, ValueError, "C must have shape"),
        ({"A": torch.zeros(3)}, ValueError, "A must have shape"),
        ({"initial_state": torch.zeros(1, 2, 2, 3, 5)}, ValueError, "initial_state must have"),
        (
            {"B": torch.zeros(1, 5, 2, 3, 3), "C": torch.zeros(1, 5, 2, 3, 3)},
            ValueError,
            "multiple of B's groups",
        ),
        ({"B": torch.zeros(1, 5, 2, 1, 3, dtype=torch.bfloat16)}, TypeError, "same dtype"),
        ({"A": torch.zeros(2, dtype=torch.bfloat16)}, TypeError, "A must be torch.float32"),
        ({"z": torch.zeros(1, 5, 2, 5, 2).mT}, ValueError, "stride 1"),
        ({"dt": None}, TypeError, "dt must be a tensor, got NoneType"),
        ({"A": None}, TypeError, "A must be a tensor, got NoneType"),
        ({"C": None}, TypeError, "C must be a tensor, got NoneType"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be at least 1"),
        ({"backend": "mamba_ssm"}, BackendError, "backend 'mamba_ssm' cannot serve"),
        ({"backend": "fast"}, BackendError, "there is no backend 'fast'"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    inputs = {name: value.float() for name, value in make_inputs(5).items()}
    with pytest.raises(error, match=message):
        ssd_scan(**{**inputs, **change})


def test_the_cuda_code_leaves_large_sizes_to_the_next_backend(monkeypatch):
    on = _dispatch.Backend({"cuda": frozenset({torch.float32})}, {})
    monkeypatch.setitem(_dispatch._BACKENDS["ssd_scan"], "native", on)
    monkeypatch.setitem(_dispatch._BACKENDS["ssd_scan"], "triton", on)

    def choose(*arguments):
        raise LookupError(_dispatch.choose(*arguments))

    monkeypatch.setattr(api, "choose", choose)
    for d_state, backend, error, message in (
        (128, None, LookupError, "native"),
        (129, None, LookupError, "triton"),
        (129, "native", BackendError, "up to 128 channels a head and 128 states, got 64 and 129"),
    ):
        inputs = make_inputs(3, width=64, d_state=d_state, full=False)
        with FakeTensorMode(), pytest.raises(error, match=message):
            on_gpu = {name: torch.empty(t.shape, device="cuda") for name, t in inputs.items()}
            ssd_scan(**on_gpu, backend=backend)


def test_on_a_gpu_half_precision_without_a_gradient_goes_to_triton(monkeypatch):
    on = _dispatch.Backend({"cuda": frozenset({torch.float32, torch.bfloat16})}, {})
    monkeypatch.setitem(_dispatch._BACKENDS["ssd_scan"], "native", on)
    monkeypatch.setitem(_dispatch._BACKENDS["ssd_scan"], "triton", on)

    def choose(*arguments):
        raise LookupError(_dispatch.choose(*arguments))

    monkeypatch.setattr(api, "choose", choose)
    inputs = make_inputs(3, full=False)
    for dtype, wants, taken in (
        (torch.bfloat16, False, "triton"),
        (torch.bfloat16, True, "native"),
        (torch.float32, False, "native"),
    ):
        with FakeTensorMode(), pytest.raises(LookupError, match=taken):
            on_gpu = {
                name: torch.empty(
                    t.shape, device="cuda", dtype=torch.float32 if name == "A" else dtype
                )
                for name, t in inputs.items()
            }
            on_gpu["x"].requires_grad_(wants)
            ssd_scan(**on_gpu)
