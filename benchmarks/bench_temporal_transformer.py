"""A transformer over frames in one op against its parts, and in the official layout."""

import torch

from benchmarks.official_layout import OfficialTemporalTransformer
from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.roofline import Work
from unianimate.blocks import TemporalTransformer
from unianimate_kernels import temporal_transformer


def head_dim(channels):
    return 64 if channels % 64 == 0 else 32


def block(kind, dim, weights):
    """Return a block that has the given weights, in the order of the op."""
    with torch.device("meta"):
        made = kind(dim, head_dim=head_dim(dim))
    made.load_state_dict(dict(zip(names(made), weights, strict=True)), assign=True)
    return made.eval()


def names(transformer):
    """Return the names of the parameters in the order of the op."""
    attentions = (
        f"{layer}.{name}"
        for i in (1, 2)
        for layer, some in (
            (f"norm{i}", ("weight", "bias")),
            (f"attn{i}", ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.weight")),
            (f"attn{i}", ("to_out.bias",)),
        )
        for name in some
    )
    rest = ("norm3", "ff.proj", "ff.out", "proj_out")
    pairs = (f"{layer}.{name}" for layer in rest for name in ("weight", "bias"))
    first = ("norm.weight", "norm.bias", "proj_in.weight", "proj_in.bias")
    found = [*first, *attentions, *pairs]
    assert sorted(found) == sorted(transformer.state_dict())
    return found


def inputs(shape, dtype, device):
    dim = shape.channels
    with torch.device("meta"):
        like = TemporalTransformer(dim, head_dim=head_dim(dim))
    state = like.state_dict()
    weights = (
        torch.randn(state[name].shape, device=device, dtype=dtype) * state[name].shape[-1] ** -0.5
        for name in names(like)
    )
    size = (shape.batch, shape.frames, shape.height, shape.width, dim)
    x = torch.randn(size, device=device, dtype=dtype).permute(0, 4, 1, 2, 3)
    return [x, *weights]


def in_one_op(x, *weights, backend):
    return temporal_transformer(
        x,
        32,
        weights[:2],
        weights[2:4],
        [weights[4:11], weights[11:18]],
        weights[18:24],
        weights[24:],
        num_heads=x.shape[1] // head_dim(x.shape[1]),
        backend=backend,
    )


def official(x, *weights):
    return block(OfficialTemporalTransformer, x.shape[1], weights)(x)


def work(shape, itemsize, backward):
    dim = shape.channels
    # projections in and out, of two attentions, and of the feed-forward; scores and their products
    products = shape.numbers * ((2 + 2 * 4 + 12) * dim + 2 * 2 * shape.frames)
    return Work(
        (2 * shape.numbers + 22 * dim**2) * itemsize,
        2 * products,
        2 * shape.numbers // head_dim(dim) * shape.frames + 4 * shape.numbers,
        arithmetic="float32" if itemsize == 4 else "bfloat16",
    )


OP = Op(
    "temporal_transformer",
    inputs,
    {**backend_forms(in_one_op, "temporal_transformer"), "official layout": official},
    work,
    cpu=(Shape(17, 32, 32, 64), Shape(17, 16, 12, 64)),
    inference=True,
)


def bench_temporal_transformer(measure_op, case):
    measure_op(OP, case)
