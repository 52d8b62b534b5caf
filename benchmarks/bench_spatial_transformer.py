"""A transformer over the tokens of frames in one op, by its parts, and in the official layout."""

import torch

from benchmarks.official_layout import spatial
from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.roofline import Work
from benchmarks.transformers import arguments, head_dim, made, random_weights, with_weights
from unianimate.blocks import SpatialTransformer
from unianimate_kernels import spatial_transformer

# tokens of text and image, and their width
_CONTEXT = (81, 256)


def block(dim):
    return made(SpatialTransformer, dim, context_dim=_CONTEXT[1])


def inputs(shape, dtype, device):
    size = (shape.batch, shape.frames, shape.height, shape.width, shape.channels)
    x = torch.randn(size, device=device, dtype=dtype).permute(0, 4, 1, 2, 3)
    context = torch.randn(shape.batch, *_CONTEXT, device=device, dtype=dtype)
    return [x, context, *random_weights(block(shape.channels), dtype, device)]


def in_one_op(x, context, *weights, backend):
    layers, options = arguments(weights, x.shape[1])
    return spatial_transformer(x, context, *layers, **options, backend=backend)


def official(x, context, *weights):
    frames = x.shape[2]
    y = spatial(
        with_weights(block(x.shape[1]), weights),
        x.transpose(1, 2).flatten(0, 1),
        context.repeat_interleave(frames, dim=0),
    )
    return y.unflatten(0, (-1, frames)).transpose(1, 2)


def work(shape, itemsize, backward):
    dim, keys = shape.channels, _CONTEXT[0]
    # of two projections, two attentions (keys and values of the context aside) and a feed-forward;
    # scores and what they weigh
    products = shape.numbers * ((2 + 4 + 2 + 12) * dim + 2 * (shape.space + keys))
    products += 2 * shape.batch * keys * _CONTEXT[1] * dim
    return Work(
        (2 * shape.numbers + 20 * dim**2 + 2 * dim * _CONTEXT[1]) * itemsize,
        2 * products,
        shape.numbers // head_dim(dim) * (shape.space + keys) + 4 * shape.numbers,
        arithmetic="float32" if itemsize == 4 else "bfloat16",
    )


OP = Op(
    "spatial_transformer",
    inputs,
    {**backend_forms(in_one_op, "spatial_transformer"), "official layout": official},
    work,
    cpu=(Shape(17, 32, 32, 64), Shape(17, 16, 12, 64)),
    inference=True,
)


def bench_spatial_transformer(measure_op, case):
    measure_op(OP, case)
