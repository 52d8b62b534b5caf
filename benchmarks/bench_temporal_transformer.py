"""A transformer over frames in one op against its parts, and in the official layout."""

import torch

from benchmarks.official_layout import OfficialTemporalTransformer
from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.roofline import Work
from benchmarks.transformers import arguments, head_dim, made, random_weights, with_weights
from unianimate.blocks import TemporalTransformer
from unianimate_kernels import temporal_transformer


def inputs(shape, dtype, device):
    size = (shape.batch, shape.frames, shape.height, shape.width, shape.channels)
    x = torch.randn(size, device=device, dtype=dtype).permute(0, 4, 1, 2, 3)
    return [x, *random_weights(made(TemporalTransformer, shape.channels), dtype, device)]


def in_one_op(x, *weights, backend):
    layers, options = arguments(weights, x.shape[1])
    return temporal_transformer(x, *layers, **options, backend=backend)


def official(x, *weights):
    return with_weights(made(OfficialTemporalTransformer, x.shape[1]), weights)(x)


def work(shape, itemsize, backward):
    dim = shape.channels
    # of two projections, two attentions and a feed-forward; scores and what they weigh
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
