import math

import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from unianimate_kernels import BackendError, _library, spatial_attention
from unianimate_kernels.spatial_attention import reference

NAMES = ("q", "k", "v")
DTYPES = (torch.float32, torch.bfloat16)
LENGTHS = [1, 2, 3, 15, 16, 17, 33, 65, 97]


def make_inputs(
    items: int, queries: int, keys: int, heads: int, dim: int, dtype: torch.dtype = torch.float64
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(items, n, heads, dim, generator=generator, dtype=torch.float64).to(dtype)
        for name, n in zip(NAMES, (queries, keys, keys), strict=True)
    }


def packed(
    items: int, tokens: int, heads: int, dim: int, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Views of one projection; the heads stand in wider rows, which nobody may read."""
    wide = torch.randn(items, tokens, 3, heads, dim + 3, generator=torch.Generator().manual_seed(0))
    wide = wide.to(dtype)
    wide[..., dim:] = math.nan
    return dict(zip(NAMES, wide[..., :dim].unbind(2), strict=True))


def check(inputs: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> None:
    gates.check(spatial_attention, inputs, backend="native", dtype=dtype, gradients=False)


def test_reference_is_the_softmax_over_the_keys():
    inputs = make_inputs(2, 3, 4, 2, 5)
    got = spatial_attention(**inputs, backend="reference")
    q, k, v = inputs.values()
    for n, i, h in ((n, i, h) for n in range(2) for i in range(3) for h in range(2)):
        weights = [math.exp(float(q[n, i, h] @ k[n, m, h]) / math.sqrt(5)) for m in range(4)]
        wanted = sum(w * v[n, m, h] for m, w in enumerate(weights)) / sum(weights)
        torch.testing.assert_close(got[n, i, h], wanted)


def test_bfloat16_by_products_is_as_exact_as_torch(monkeypatch):
    monkeypatch.setattr(reference, "_SCORES", 500)  # several items at a time, not all
    inputs = make_inputs(5, 9, 13, 2, 16, dtype=torch.bfloat16)
    ours = spatial_attention(**inputs, backend="reference").transpose(1, 2)
    rows = [t.transpose(1, 2) for t in inputs.values()]
    truth = scaled_dot_product_attention(*(t.double() for t in rows))
    assert (ours - truth).norm() < 2 * (scaled_dot_product_attention(*rows) - truth).norm()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keys", LENGTHS)
def test_native_meets_the_gate(keys, dtype):
    for queries in LENGTHS:
        check(make_inputs(2, queries, keys, 2, 20), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 7, 8, 31, 32, 40, 64, 80, 131])
def test_native_takes_any_head_dim(dim, dtype):
    check(make_inputs(1, 17, 21, 3, dim), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keys", [256, 257, 300, 1029])
def test_native_takes_more_keys_than_a_chunk_and_more_queries_than_a_run(keys, dtype):
    check(make_inputs(1, 401, keys, 1, 24), dtype)


@given(
    items=st.integers(1, 3),
    queries=st.integers(1, 70),
    keys=st.integers(1, 300),
    heads=st.integers(1, 3),
    dim=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=30, deadline=None)
def test_native_meets_the_gate_at_drawn_shapes(items, queries, keys, heads, dim, dtype):
    check(make_inputs(items, queries, keys, heads, dim), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [5, 16])
def test_native_reads_strided_views(dim, dtype):
    inputs = packed(2, 19, 3, dim, dtype)
    check(inputs, dtype)
    check({n: t.permute(1, 0, 2, 3) for n, t in inputs.items()}, dtype)


def test_native_takes_scores_that_overflow_an_exponential():
    check({n: 60 * t for n, t in make_inputs(1, 18, 300, 1, 16).items()})


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_stays_where_it_is_read(dtype):
    inputs = make_inputs(1, 20, 30, 1, 8, dtype=dtype)
    inputs["q"][0, 3] = math.nan
    rows = spatial_attention(**inputs, backend="native").isnan().any(-1)
    assert rows.nonzero().tolist() == [[0, 3, 0]]


def test_float64_is_exact():
    for keys in (1, 17, 300):
        inputs = make_inputs(2, 25, keys, 2, 11)
        got, wanted = (spatial_attention(**inputs, backend=b) for b in ("native", "reference"))
        assert (got - wanted).abs().max() < 1e-12


def test_every_instruction_set_meets_the_gate(monkeypatch):
    levels = [
        level
        for level in ("generic", "avx2", "avx512")
        if _library.has("spatial_attention_forward", level)
    ]
    assert _library.cpu_level in levels
    # those this CPU runs come no later than the best one
    for level in levels[: levels.index(_library.cpu_level) + 1]:
        monkeypatch.setattr(_library, "cpu_level", level)
        for keys in (1, 15, 33, 300):
            for dtype in DTYPES:
                check(make_inputs(2, 35, keys, 2, 21), dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_result_does_not_depend_on_the_threads(dtype):
    inputs = make_inputs(2, 500, 300, 1, 16, dtype=dtype)
    threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(spatial_attention(**inputs, backend="native"))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_native_makes_no_gradients():
    inputs = make_inputs(1, 5, 6, 2, 4)
    with torch.no_grad():
        wanted = spatial_attention(**inputs, backend="native")
    inputs["v"].requires_grad_()
    y = spatial_attention(**inputs)  # by the reference
    torch.testing.assert_close(y.detach(), wanted)
    assert torch.autograd.grad(y.sum(), inputs["v"])[0].isfinite().all()
    with pytest.raises(BackendError, match="it has no gradient: call it under"):
        spatial_attention(**inputs, backend="native")
    with torch.no_grad():
        assert torch.equal(spatial_attention(**inputs), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype):
    inputs = make_inputs(1, 5, 6, 2, 4, dtype=dtype)
    spatial_attention(**inputs, backend="native")
    torch.library.opcheck(
        torch.ops.unianimate.spatial_attention_native.default, tuple(inputs.values())
    )


@pytest.mark.parametrize("gradients", [False, True])
def test_compiles_without_a_graph_break(gradients):
    inputs = make_inputs(1, 5, 6, 2, 4, dtype=torch.float32)
    compiled = torch.compile(spatial_attention, fullgraph=True, backend="aot_eager")
    got = gates.run(compiled, inputs, gradients=gradients)
    for name, value in gates.run(spatial_attention, inputs, gradients=gradients).items():
        torch.testing.assert_close(got[name], value)


def test_autocast_casts_the_inputs():
    inputs = make_inputs(1, 5, 6, 2, 4, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert spatial_attention(**inputs).dtype == torch.bfloat16


def test_meta_tensors_have_shapes():
    q, k = torch.empty(2, 5, 3, 8, device="meta"), torch.empty(2, 7, 3, 8, device="meta")
    assert spatial_attention(q, k, k).shape == q.shape


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": torch.zeros(2, 3, 4)}, ValueError, r"q must be \(N, L, heads, head_dim\)"),
        ({"k": torch.zeros(2, 3, 4)}, ValueError, r"k must be \(N, M, heads, head_dim\)"),
        ({"q": torch.zeros(1, 0, 2, 4)}, ValueError, "q has an empty axis"),
        ({n: torch.zeros(1, 0, 2, 4) for n in ("k", "v")}, ValueError, "k has an empty axis"),
        ({"k": torch.zeros(1, 6, 3, 4)}, ValueError, r"k must have shape \(1, 6, 2, 4\)"),
        ({"k": torch.zeros(2, 6, 2, 4)}, ValueError, "k must have shape"),
        ({"v": torch.zeros(1, 5, 2, 4)}, ValueError, r"v must have shape \(1, 6, 2, 4\)"),
        ({"v": torch.zeros(1, 6, 2, 4).bfloat16()}, TypeError, "v is torch.bfloat16"),
        ({"q": torch.zeros(1, 5, 2, 4).int()}, TypeError, "q must be float32"),
        ({"k": torch.zeros(1, 6, 4, 2).mT}, ValueError, "last axis of k must have stride 1"),
        ({"k": None}, TypeError, "k must be a tensor, got NoneType"),
        ({"backend": "flash"}, BackendError, "there is no backend 'flash'"),
        ({"v": torch.zeros(1, 6, 2, 4, device="meta")}, ValueError, "v is on meta"),
    ],
)
def test_bad_calls_are_refused(change, error, message):
    inputs = {"q": torch.zeros(1, 5, 2, 4), **{n: torch.zeros(1, 6, 2, 4) for n in ("k", "v")}}
    with pytest.raises(error, match=message):
        spatial_attention(**{**inputs, **change})
