"""The ops of whole layers with their Triton kernels on CPU tensors."""

from functools import partial

import gates
import pytest
import torch
from layer_inputs import (
    conv_inputs,
    feed_forward_inputs,
    resnet_inputs,
    spatial_inputs,
    transformer_inputs,
)

from unianimate_kernels import (
    _rows,
    feed_forward,
    resnet_block,
    spatial_transformer,
    temporal_conv_block,
    temporal_transformer,
)
from unianimate_kernels.feed_forward.gated import gated_product

DTYPES = (torch.float32, torch.float16)
CASES = [
    (feed_forward, feed_forward_inputs((2, 7), 30, 34)),
    (feed_forward, feed_forward_inputs((1,), 33, 20)),
    (feed_forward, feed_forward_inputs((3, 50), 72, 136)),  # rows that tiles take
    (temporal_transformer, transformer_inputs(2, 5, 3, 4, 30, 6, 2, 12, 34)),
    (temporal_transformer, transformer_inputs(1, 1, 2, 2, 32, 4, 3, 16, 40)),
    (spatial_transformer, spatial_inputs(2, 3, 3, 4, 30, 6, 2, 12, 34, 7, 18)),
    (temporal_conv_block, conv_inputs(2, 5, 3, 4, 30, 6)),
    (temporal_conv_block, conv_inputs(2, 5, 3, 4, 32, 8)),  # rows that tiles take
    (resnet_block, resnet_inputs(3, 4, 5, 12, 30, 6)),
    (resnet_block, resnet_inputs(2, 3, 3, 12, 12, 3, embedding=0)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "inputs"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_meets_the_gate(op, inputs, dtype):
    gates.check(op, inputs, backend="triton", dtype=dtype, gradients=False)


@pytest.mark.parametrize(
    ("op", "inputs"), CASES[::2], ids=lambda case: getattr(case, "__name__", "")
)
def test_compiles_without_a_graph_break(op, inputs):
    inputs = gates.cast(inputs, torch.float32, frozenset())
    with torch.no_grad():
        compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
        want = op(**inputs, backend="triton")
        torch.testing.assert_close(compiled(**inputs, backend="triton"), want)


def test_the_gated_product_is_that_of_its_parts():
    """Rows, columns and terms end inside a tile."""
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x, weight, bias = draw(131, 72), draw(2 * 136, 72) / 8, draw(2 * 136)
    value, gate = torch.nn.functional.linear(x, weight, bias).chunk(2, dim=-1)
    want = value * torch.nn.functional.gelu(gate)
    got = gated_product(*(t.half() for t in (x, weight, bias)))
    assert (got - want).abs().max() <= 8 * torch.finfo(torch.float16).eps * want.abs().max()


def test_what_came_in_stays_as_it_was():
    inputs = gates.cast(feed_forward_inputs((5,), 32, 16), torch.float32, frozenset())
    before = inputs["x"].clone()
    with torch.no_grad():
        feed_forward(**inputs, backend="triton")
    assert torch.equal(inputs["x"], before)


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 30), (17, 320), (2, 1280), (9, 2100)])
def test_rows(rows, width):
    generator = torch.Generator().manual_seed(width)
    x, added = torch.randn(2, rows, width, generator=generator)
    weight, shift, before, extra = torch.randn(4, width, generator=generator)

    def expect_normed(got, rows):
        want = torch.nn.functional.layer_norm(rows, (width,), weight, shift)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)

    with torch.no_grad():
        h = x + added + before
        total, normed = _rows.add_layer_norm(x, added, weight, shift, 1e-5, before, extra)
        torch.testing.assert_close(total, h + extra)
        expect_normed(normed, h)
        expect_normed(_rows.layer_norm(x, weight, shift, 1e-5, before), x + before)
        expect_normed(_rows.layer_norm(x, weight, shift, 1e-5, None), x)
        torch.testing.assert_close(_rows.add_rows(x, added, extra), x + added + extra)


def test_strided_parameters_are_read_as_they_are():
    inputs = transformer_inputs(1, 3, 2, 2, 32, 4, 2, 16, 40)
    inputs = gates.cast(inputs, torch.float32, frozenset())

    def spread(value):
        if isinstance(value, list):
            return [spread(item) for item in value]
        return value.repeat_interleave(2)[::2] if value.dim() == 1 else value

    strided = {**inputs, **{name: spread(inputs[name]) for name in ("attentions", "feed_forward")}}
    with torch.no_grad():
        got, want = (temporal_transformer(**i, backend="triton") for i in (strided, inputs))
    assert torch.equal(got, want)


def test_opcheck():
    x, added = torch.randn(2, 3, 10)
    weight, shift, extra = torch.randn(3, 10)
    ops = torch.ops.unianimate
    for before in (None, extra):
        torch.library.opcheck(ops.layer_norm_triton, (x, weight, shift, 1e-5, before))
    with_all = (x, added, weight, shift, 1e-5, shift, extra)
    for given in (with_all, (x, None, weight, shift, 1e-5, None, None)):
        torch.library.opcheck(ops.add_layer_norm_triton, given)
    torch.library.opcheck(ops.add_rows_triton, (x, added, extra))
    given = (torch.randn(3, 8), torch.randn(16, 8), torch.randn(16))
    torch.library.opcheck(ops.gated_product_triton, tuple(t.half() for t in given))
