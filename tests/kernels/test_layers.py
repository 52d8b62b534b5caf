"""The ops of whole transformer layers: fused on the CPU, for inference."""

from functools import partial

import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_inputs import (
    conv_inputs,
    feed_forward_inputs,
    resnet_inputs,
    spatial_inputs,
    transformer_inputs,
)

from unianimate_kernels import (
    BackendError,
    _library,
    feed_forward,
    resnet_block,
    spatial_transformer,
    temporal_conv_block,
    temporal_transformer,
)
from unianimate_kernels.feed_forward import reference
from unianimate_kernels.spatial_transformer import native

DTYPES = (torch.float32, torch.bfloat16)
FRAMES = (1, 2, 3, 4, 5, 15, 16, 17, 33, 65, 97)
# not fewer: a LayerNorm over a few values that happen to be close magnifies any rounding before it
HEAD_DIMS = st.integers(8, 40)


LAYERS = {
    resnet_block: partial(resnet_inputs, 2, 3, 4, 30, 12, 6),
    feed_forward: partial(feed_forward_inputs, (2, 7), 30, 34),
    temporal_conv_block: partial(conv_inputs, 2, 5, 3, 4, 30, 6),
    spatial_transformer: partial(spatial_inputs, 2, 5, 3, 4, 30, 6, 2, 12, 34, 7, 18),
    temporal_transformer: partial(transformer_inputs, 2, 5, 3, 4, 30, 6, 2, 12, 34),
}


def given_in(op, dtype):
    return gates.cast(LAYERS[op](), dtype, frozenset())


def check(op, inputs, dtype):
    # what the CPU's memory held before must not show
    torch.empty(1 << 20).fill_(torch.nan)
    gates.check(op, inputs, backend="native", dtype=dtype, gradients=False)


# the code for this CPU, and that for older ones which it runs too
LEVELS = ["avx512", "avx2"] if _library.cpu_level == "avx512" else [_library.cpu_level]


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch):
    """Run the code for one instruction set."""
    monkeypatch.setattr(_library, "cpu_level", request.param)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "dim", "hidden"),
    [
        ((), 2, 1),
        ((1,), 1, 2),
        ((5,), 7, 9),
        ((13,), 30, 34),
        ((2, 3, 41), 64, 256),
        ((97,), 96, 40),
    ],
)
def test_feed_forward_meets_the_gate(shape, dim, hidden, dtype, level):
    check(feed_forward, feed_forward_inputs(shape, dim, hidden), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frames", FRAMES)
def test_transformer_meets_the_gate(frames, dtype, level):
    check(temporal_transformer, transformer_inputs(1, frames, 5, 1, 30, 3, 2, 16, 40), dtype)


@pytest.mark.parametrize(
    ("batch", "height", "width", "dim", "groups", "heads", "head_dim", "hidden"),
    [
        (1, 1, 1, 1, 1, 1, 1, 1),
        (3, 5, 8, 64, 32, 1, 64, 256),
        (2, 7, 1, 33, 3, 3, 5, 21),
        (2, 4, 3, 96, 32, 3, 32, 384),
    ],
)
def test_transformer_meets_the_gate_at_other_sizes(
    batch, height, width, dim, groups, heads, head_dim, hidden, level
):
    inputs = transformer_inputs(batch, 9, height, width, dim, groups, heads, head_dim, hidden)
    for dtype in DTYPES:
        check(temporal_transformer, inputs, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("batch", "frames", "height", "width", "dim", "groups", "heads", "head_dim", "hidden", "keys"),
    [
        (1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
        (1, 2, 1, 3, 2, 1, 1, 2, 2, 2),
        (3, 2, 5, 8, 64, 32, 1, 64, 256, 81),
        (2, 3, 7, 1, 33, 3, 3, 5, 21, 4),
        (2, 5, 4, 3, 96, 32, 3, 32, 384, 68),
        (1, 2, 20, 15, 30, 5, 2, 16, 40, 300),
        (1, 40, 9, 9, 32, 32, 2, 48, 64, 5),
    ],
)
def test_spatial_transformer_meets_the_gate(
    batch, frames, height, width, dim, groups, heads, head_dim, hidden, keys, dtype, level
):
    sizes = (batch, frames, height, width, dim, groups, heads, head_dim, hidden, keys)
    for source in (1, 22):
        check(spatial_transformer, spatial_inputs(*sizes, source), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_keys_and_values_of_few_frames_at_once_change_no_bit(dtype, monkeypatch):
    sizes = (1, 5, 10, 7, 32, 4, 2, 16, 32, 9, 20)
    inputs = gates.cast(spatial_inputs(*sizes), dtype, frozenset())
    with torch.no_grad():
        want = spatial_transformer(**inputs, backend="native")
        for size in (1, 2 * 4 * (2 * 128 * (16 + 32) + 70 * 32)):  # one frame, two of them
            monkeypatch.setattr(native, "_TOGETHER_BYTES", size)
            assert torch.equal(spatial_transformer(**inputs, backend="native"), want)


def test_a_context_is_read_in_place():
    inputs = given_in(spatial_transformer, torch.float32)
    context = inputs["context"][:1]
    wide = torch.full((1, 7, 50), torch.nan)
    wide[..., 10:28] = context
    with torch.no_grad():
        inputs["context"] = context.repeat(2, 1, 1)
        want = spatial_transformer(**inputs, backend="native")
        inputs["context"] = wide[..., 10:28].expand(2, 7, 18)
        assert torch.equal(spatial_transformer(**inputs, backend="native"), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frames", FRAMES)
def test_convolutions_meet_the_gate(frames, dtype, level):
    check(temporal_conv_block, conv_inputs(1, frames, 2, 3, 24, 4), dtype)


@pytest.mark.parametrize(
    ("batch", "height", "width", "channels", "groups"),
    [(1, 1, 1, 1, 1), (3, 5, 8, 64, 32), (2, 3, 3, 33, 3), (1, 16, 12, 96, 32)],
)
def test_convolutions_meet_the_gate_at_other_sizes(batch, height, width, channels, groups, level):
    inputs = conv_inputs(batch, 9, height, width, channels, groups)
    for dtype in DTYPES:
        check(temporal_conv_block, inputs, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("items", "height", "width", "dim", "out", "groups"),
    [
        (1, 1, 1, 2, 2, 1),
        (3, 5, 8, 64, 64, 32),
        (2, 7, 1, 33, 9, 3),
        (2, 3, 3, 9, 33, 3),
        (1, 20, 27, 32, 96, 8),
    ],
)
def test_residual_block_meets_the_gate(items, height, width, dim, out, groups, dtype, level):
    for embedding in (0, 1, 40):
        inputs = resnet_inputs(items, height, width, dim, out, groups, embedding=embedding)
        check(resnet_block, inputs, dtype)


@given(
    items=st.integers(1, 5),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    groups=st.integers(1, 4),
    size=st.integers(2, 10),
    out=st.integers(2, 10),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=20, deadline=None)
def test_residual_block_meets_the_gate_at_drawn_shapes(
    items, height, width, groups, size, out, dtype
):
    inputs = resnet_inputs(items, height, width, groups * size, groups * out, groups)
    check(resnet_block, inputs, dtype)


@given(
    rows=st.integers(1, 60),
    dim=st.integers(1, 70),
    hidden=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=20, deadline=None)
def test_feed_forward_meets_the_gate_at_drawn_shapes(rows, dim, hidden, dtype):
    check(feed_forward, feed_forward_inputs((rows,), dim, hidden), dtype)


@given(
    frames=st.integers(1, 40),
    height=st.integers(1, 20),
    groups=st.integers(1, 5),
    size=st.integers(1, 14),
    heads=st.integers(1, 3),
    head_dim=HEAD_DIMS,
    hidden=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=20, deadline=None)
def test_transformer_meets_the_gate_at_drawn_shapes(
    frames, height, groups, size, heads, head_dim, hidden, dtype
):
    dim = groups * size
    inputs = transformer_inputs(1, frames, height, 1, dim, groups, heads, head_dim, hidden)
    check(temporal_transformer, inputs, dtype)


@given(
    frames=st.integers(1, 4),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    groups=st.integers(1, 5),
    size=st.integers(1, 14),
    heads=st.integers(1, 3),
    head_dim=HEAD_DIMS,
    hidden=st.integers(1, 70),
    keys=st.integers(1, 90),
    source=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=20, deadline=None)
def test_spatial_transformer_meets_the_gate_at_drawn_shapes(
    frames, height, width, groups, size, heads, head_dim, hidden, keys, source, dtype
):
    sizes = (1, frames, height, width, groups * size, groups, heads, head_dim, hidden)
    check(spatial_transformer, spatial_inputs(*sizes, keys, source), dtype)


def test_the_reference_feed_forward_in_pieces_is_the_whole(monkeypatch):
    inputs = given_in(feed_forward, torch.float64)
    whole = gates.run(feed_forward, inputs, backend="reference")["output"]
    monkeypatch.setattr(reference, "_ROWS", 5)
    with torch.no_grad():
        pieces = feed_forward(**inputs, backend="reference")
    assert (pieces - whole).abs().max() < 1e-13


@given(
    frames=st.integers(1, 40),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    groups=st.integers(1, 8),
    size=st.integers(1, 8),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=20, deadline=None)
def test_convolutions_meet_the_gate_at_drawn_shapes(frames, height, width, groups, size, dtype):
    inputs = conv_inputs(1, frames, height, width, groups * size, groups)
    check(temporal_conv_block, inputs, dtype)


@pytest.mark.parametrize("op", LAYERS)
def test_float64_is_left_to_the_reference(op):
    inputs = given_in(op, torch.float64)
    with torch.no_grad():
        assert torch.equal(op(**inputs), op(**inputs, backend="reference"))
        with pytest.raises(BackendError, match="it takes bfloat16, float32, got float64"):
            op(**inputs, backend="native")


@pytest.mark.parametrize("op", LAYERS)
def test_strided_input_is_read_in_place(op):
    inputs = given_in(op, torch.float32)
    x = inputs["x"]
    channels = -1 if op is feed_forward else 1
    rows = x.movedim(channels, -1)
    wide = torch.full((*rows.shape[:-1], 50), torch.nan)
    wide[..., 10:40] = rows
    with torch.no_grad():
        want = op(**inputs, backend="native")
        inputs["x"] = wide[..., 10:40].movedim(-1, channels)
        assert torch.equal(op(**inputs, backend="native"), want)
        # a clip cut out of a longer one, another axis outermost
        inputs["x"] = rows.transpose(0, 1).contiguous().transpose(0, 1).movedim(-1, channels)
        assert torch.equal(op(**inputs, backend="native"), want)
        assert torch.equal(op(**{**inputs, "x": x.contiguous()}, backend="native"), want)


@pytest.mark.parametrize("op", LAYERS)
def test_the_number_of_threads_changes_no_bit(op):
    inputs, threads = given_in(op, torch.float32), torch.get_num_threads()
    results = []
    try:
        with torch.no_grad():
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                results.append(op(**inputs, backend="native"))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def tensors_in(value):
    """Return the tensors among an argument, which may be a list of lists."""
    if isinstance(value, list):
        return [tensor for item in value for tensor in tensors_in(item)]
    return [value] if isinstance(value, torch.Tensor) else []


@pytest.mark.parametrize("op", LAYERS)
def test_a_gradient_is_never_missing(op):
    inputs = given_in(op, torch.float32)
    for name, value in inputs.items():
        for tensor in tensors_in(value):
            tensor.requires_grad_()
            with pytest.raises(BackendError, match="it has no gradient"):
                op(**inputs, backend="native")
            (gradient,) = torch.autograd.grad(op(**inputs).sum(), tensor)
            assert gradient.isfinite().all(), name
            tensor.requires_grad_(False)


@pytest.mark.parametrize("op", LAYERS)
def test_opcheck(op):
    inputs = given_in(op, torch.float32)
    with torch.no_grad():
        op(**inputs, backend="native")  # registers it
        registered = getattr(torch.ops.unianimate, f"{op.__name__}_native").default
        given = {**inputs, "eps": 1e-5}
        if op in (spatial_transformer, temporal_transformer):  # on one list of all weights
            lists = [value for name, value in inputs.items() if name not in ("x", "context")]
            given |= {"weights": tensors_in(lists), "norm_eps": 1e-6}
        arguments = tuple(given[a.name] for a in registered._schema.arguments)
        torch.library.opcheck(registered, arguments)


@pytest.mark.parametrize("op", LAYERS)
def test_compiles_without_a_graph_break(op):
    torch.compiler.reset()
    inputs = given_in(op, torch.float32)
    with torch.no_grad():
        compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(**inputs), op(**inputs))


@pytest.mark.parametrize("op", LAYERS)
def test_autocast_casts_everything(op):
    inputs = given_in(op, torch.float32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert op(**inputs).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("op", "changed", "error", "message"),
    [
        (feed_forward, {"x": torch.zeros(0, 30)}, ValueError, "empty axis"),
        (feed_forward, {"x": torch.zeros(())}, ValueError, r"x must be \(..., C\)"),
        (feed_forward, {"x": torch.zeros(3, 30).half()}, TypeError, "same dtype"),
        (feed_forward, {"weight_in": torch.zeros(67, 30)}, ValueError, r"shape \(68, 30\)"),
        (feed_forward, {"weight_out": torch.zeros(31, 34)}, ValueError, "30 channels of x"),
        (feed_forward, {"norm_bias": torch.zeros(1)}, ValueError, "norm_bias must have shape"),
        (feed_forward, {"x": torch.zeros(30, 9).t()}, ValueError, "stride 1"),
        (temporal_conv_block, {"x": torch.zeros(1, 30, 2, 3)}, ValueError, r"\(B, C, F, H, W\)"),
        (temporal_conv_block, {"x": torch.zeros(1, 30, 0, 3, 2)}, ValueError, "empty axis"),
        (temporal_conv_block, {"num_groups": 7}, ValueError, "divide the 30 channels"),
        (temporal_conv_block, {"biases": 3 * [torch.zeros(30)]}, ValueError, "must be 4 tensors"),
        (
            temporal_conv_block,
            {"weights": 4 * [torch.zeros(30, 30, 3)]},
            ValueError,
            "weights, tensor 1",
        ),
        (
            temporal_conv_block,
            {"biases": 4 * [torch.zeros(30).half()]},
            TypeError,
            "biases, tensor 1 is",
        ),
        (temporal_transformer, {"x": torch.zeros(1, 30, 2, 3)}, ValueError, r"\(B, C, F, H, W\)"),
        (temporal_transformer, {"x": torch.zeros(1, 30, 0, 3, 2)}, ValueError, "empty axis"),
        (temporal_transformer, {"num_groups": 7}, ValueError, "divide the 30 channels"),
        (temporal_transformer, {"num_heads": 5}, ValueError, "divide the 24 inner channels, got 5"),
        (temporal_transformer, {"num_heads": 0}, ValueError, "got 0"),
        (temporal_transformer, {"norm": [torch.zeros(30)]}, ValueError, "norm must be 2 tensors"),
        (temporal_transformer, {"proj_in": []}, ValueError, "proj_in must be 2 tensors"),
        (temporal_transformer, {"feed_forward": []}, ValueError, "feed_forward 6, got 2 and 0"),
        (temporal_transformer, {"attentions": []}, ValueError, "attentions must be 2 lists"),
        (temporal_transformer, {"attentions": 2 * [7 * [torch.zeros(24)]]}, ValueError, "tensor 3"),
        (spatial_transformer, {"context": torch.zeros(2, 18)}, ValueError, r"\(B, M, D\)"),
        (spatial_transformer, {"context": torch.zeros(1, 7, 18)}, ValueError, r"\(2, 7, 18\)"),
        (spatial_transformer, {"context": torch.zeros(2, 0, 18)}, ValueError, "empty axis"),
        (spatial_transformer, {"context": torch.zeros(2, 7, 17)}, ValueError, r"\(24, 17\)"),
        (spatial_transformer, {"context": torch.zeros(2, 7, 18).half()}, TypeError, "context is"),
        (temporal_transformer, {"norm": 2 * [torch.zeros(30).half()]}, TypeError, "norm, tensor 1"),
        (resnet_block, {"x": torch.zeros(2, 30, 3)}, ValueError, r"\(N, C, H, W\)"),
        (resnet_block, {"x": torch.zeros(2, 30, 0, 4)}, ValueError, "empty axis"),
        (resnet_block, {"num_groups": 4}, ValueError, "30 channels of x and the 12 of the result"),
        (resnet_block, {"embedding": torch.zeros(2, 30)}, ValueError, r"shape \(12, 30\)"),
        (resnet_block, {"embedding": torch.zeros(18)}, ValueError, r"embedding must be \(B, E\)"),
        (resnet_block, {"embedding": torch.zeros(3, 18)}, ValueError, "2 frames of x .* got 3"),
        (resnet_block, {"embedding": torch.zeros(2, 18).half()}, TypeError, "embedding is"),
        (resnet_block, {"embedding": None}, ValueError, "emb_proj is given and no embedding"),
        (resnet_block, {"emb_proj": []}, ValueError, "emb_proj must be 2 tensors"),
        (resnet_block, {"skip": []}, ValueError, "skip must be 2 tensors"),
        (resnet_block, {"conv1": []}, ValueError, "conv1 must be 2 tensors"),
        (resnet_block, {"conv2": 2 * [torch.zeros(12)]}, ValueError, "conv2, tensor 1"),
        (resnet_block, {"norm2": 2 * [torch.zeros(30)]}, ValueError, "norm2, tensor 1"),
    ],
)
def test_bad_input_is_refused(op, changed, error, message):
    with pytest.raises(error, match=message):
        op(**{**given_in(op, torch.float32), **changed})
