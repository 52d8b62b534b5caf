import math

import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unianimate_kernels import BackendError, temporal_attention

DTYPES = (torch.float32, torch.bfloat16)
NAMES = ("q", "k", "v")


def make_inputs(*shape: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    drawn = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return dict(zip(NAMES, drawn.to(dtype), strict=True))


def packed(batch, frames, locations, heads, dim, dtype=torch.float32):
    """Views of one projection, as the blocks pass them; the heads stand in a wider row."""
    wide = make_inputs(batch, frames, locations, 3, heads, dim + 3, dtype=dtype)["q"]
    return dict(zip(NAMES, wide[..., :dim].unbind(3), strict=True))


def test_reference_is_the_softmax_over_frames():
    inputs = make_inputs(2, 4, 3, 2, 5)
    got = temporal_attention(**inputs, scale=0.3, backend="reference")
    q, k, v = inputs.values()
    for b, f, s, h in ((b, f, s, h) for b in range(2) for f in range(4) for s in range(3)
                       for h in range(2)):  # fmt: skip
        weights = [math.exp(0.3 * float(q[b, f, s, h] @ k[b, g, s, h])) for g in range(4)]
        wanted = sum(w * v[b, g, s, h] for g, w in enumerate(weights)) / sum(weights)
        torch.testing.assert_close(got[b, f, s, h], wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 15, 16, 17, 33, 65, 97])
def test_native_meets_the_gate(frames, dtype):
    gates.check(temporal_attention, make_inputs(2, frames, 3, 2, 20), backend="native", dtype=dtype)


@pytest.mark.parametrize("dim", [1, 8, 40, 64, 80, 130])
def test_native_takes_any_head_dim(dim):
    gates.check(
        temporal_attention, make_inputs(1, 17, 2, 3, dim), backend="native", dtype=torch.float32
    )


@given(
    batch=st.integers(1, 3),
    frames=st.integers(1, 40),
    locations=st.integers(1, 5),
    heads=st.integers(1, 3),
    dim=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=20, deadline=None)
def test_native_meets_the_gate_at_drawn_shapes(batch, frames, locations, heads, dim, dtype):
    inputs = packed(batch, frames, locations, heads, dim)
    gates.check(temporal_attention, inputs, backend="native", dtype=dtype, scale=0.4)


def test_native_reads_permuted_views():
    inputs = {n: t.permute(2, 1, 0, 3, 4) for n, t in make_inputs(3, 9, 2, 2, 16).items()}
    gates.check(temporal_attention, inputs, backend="native", dtype=torch.float32)


def test_native_takes_more_frames_and_heads_than_one_slot_holds_at_once():
    inputs = make_inputs(1, 700, 1, 5, 24)
    gates.check(temporal_attention, inputs, backend="native", dtype=torch.float32)


def test_native_takes_scores_that_overflow_an_exponential():
    inputs = {n: 60 * t for n, t in make_inputs(1, 18, 2, 1, 16).items()}
    gates.check(temporal_attention, inputs, backend="native", dtype=torch.float32)


def test_result_does_not_depend_on_the_threads():
    inputs = make_inputs(1, 17, 29, 2, 16, dtype=torch.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(gates.run(temporal_attention, inputs, backend="native"))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        for name, value in result.items():
            assert torch.equal(value, results[0][name]), name


@pytest.mark.parametrize("frames", [3, 11])
def test_gradcheck(frames):
    inputs = [t.requires_grad_() for t in make_inputs(1, frames, 2, 1, 3).values()]
    assert torch.autograd.gradcheck(lambda *t: temporal_attention(*t, backend="native"), inputs)


def test_opcheck():
    inputs = [t.requires_grad_() for t in make_inputs(1, 5, 2, 2, 4, dtype=torch.float32).values()]
    temporal_attention(*inputs, backend="native")
    torch.library.opcheck(torch.ops.unianimate.temporal_attention_native, (*inputs, 0.5))


def compiles(backend: str) -> None:
    inputs = make_inputs(1, 5, 2, 2, 4, dtype=torch.float32)
    compiled = torch.compile(temporal_attention, fullgraph=True, backend=backend)
    got, wanted = gates.run(compiled, inputs), gates.run(temporal_attention, inputs)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value)


def test_compiles_without_a_graph_break():
    compiles("aot_eager")


@pytest.mark.slow
def test_compiles_with_inductor():
    compiles("inductor")


def test_autocast_casts_the_inputs():
    inputs = make_inputs(1, 5, 2, 2, 4, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert temporal_attention(**inputs).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": torch.zeros(2, 3, 4)}, ValueError, r"q must be \(B, F, S, heads, head_dim\)"),
        ({n: torch.zeros(1, 0, 2, 2, 4) for n in NAMES}, ValueError, "q has an empty axis"),
        ({"k": torch.zeros(1, 6, 2, 2, 4)}, ValueError, "k must have shape"),
        ({"v": torch.zeros(1, 5, 2, 2, 4).bfloat16()}, TypeError, "v is torch.bfloat16"),
        ({"q": torch.zeros(1, 5, 2, 2, 4).int()}, TypeError, "q must be float32"),
        ({"k": torch.zeros(1, 5, 2, 4, 2).mT}, ValueError, "last axis of k must have stride 1"),
        ({"k": None}, TypeError, "k must be a tensor, got NoneType"),
        ({"backend": "xformers"}, BackendError, "xformers"),
        ({"backend": "flash"}, BackendError, "there is no backend 'flash'"),
        ({"v": torch.zeros(1, 5, 2, 2, 4, device="meta")}, ValueError, "v is on meta"),
    ],
)
def test_bad_calls_are_refused(change, error, message):
    inputs = {n: torch.zeros(1, 5, 2, 2, 4) for n in NAMES}
    with pytest.raises(error, match=message):
        temporal_attention(**{**inputs, **change})
