"""A transformer's attention over frames in one op against torch's on rearranged copies."""

import torch
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.roofline import Work
from unianimate_kernels import temporal_attention_layer


def head_dim(channels):
    return 64 if channels % 64 == 0 else 32


def inputs(shape, dtype, device):
    dim = shape.channels
    sizes = [(dim,), (dim,), *[(dim, dim)] * 4, (dim,)]
    weights = [torch.randn(size, device=device, dtype=dtype) * size[-1] ** -0.5 for size in sizes]
    size = (shape.batch, shape.frames, shape.space, dim)
    return [torch.randn(size, device=device, dtype=dtype), *weights]


def heads(x):
    return x.shape[-1] // head_dim(x.shape[-1])


def fused(x, *weights, backend):
    return temporal_attention_layer(x, *weights, num_heads=heads(x), backend=backend)


def rearranged(x, norm_weight, norm_bias, to_q, to_k, to_v, to_out, bias):
    """Do as the official code: frames next to each other at every location, and back."""
    rows = x.transpose(1, 2).contiguous()
    n = layer_norm(rows, norm_weight.shape, norm_weight, norm_bias)
    q, k, v = (
        linear(n, w).unflatten(-1, (heads(x), -1)).transpose(2, 3) for w in (to_q, to_k, to_v)
    )
    mixed = scaled_dot_product_attention(*(t.flatten(0, 1).contiguous() for t in (q, k, v)))
    mixed = mixed.transpose(1, 2).flatten(2).view(rows.shape)
    return (rows + linear(mixed, to_out, bias)).transpose(1, 2).contiguous()


def work(shape, itemsize, backward):
    products = shape.numbers * (4 * shape.channels + 2 * shape.frames)
    return Work(
        (2 * shape.numbers + 4 * shape.channels**2) * itemsize,
        2 * products,
        shape.numbers // head_dim(shape.channels) * shape.frames,
        arithmetic="float32" if itemsize == 4 else "bfloat16",
    )


OP = Op(
    "temporal_attention_layer",
    inputs,
    {**backend_forms(fused, "temporal_attention_layer"), "torch, rearranged": rearranged},
    work,
    cpu=(Shape(17, 32, 32, 64), Shape(17, 16, 12, 64)),
    inference=True,
)


def bench_temporal_attention_layer(measure_op, case):
    measure_op(OP, case)
