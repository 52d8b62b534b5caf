"""A transformer's feed-forward in one op against torch's norm, products, gated GELU and sum."""

import torch
from torch.nn.functional import gelu, layer_norm, linear

from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.roofline import Work
from unianimate_kernels import feed_forward


def inputs(shape, dtype, device):
    dim, hidden = shape.channels, 4 * shape.channels
    sizes = [(dim,), (dim,), (2 * hidden, dim), (2 * hidden,), (dim, hidden), (dim,)]
    weights = [torch.randn(size, device=device, dtype=dtype) * size[-1] ** -0.5 for size in sizes]
    rows = shape.batch * shape.frames * shape.space
    return [torch.randn(rows, dim, device=device, dtype=dtype), *weights]


def in_torch(x, norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out):
    h = linear(layer_norm(x, norm_weight.shape, norm_weight, norm_bias), weight_in, bias_in)
    value, gate = h.chunk(2, dim=-1)
    return x + linear(value * gelu(gate), weight_out, bias_out)


def work(shape, itemsize, backward):
    # products of 1 by 8 and of 4 by 1 times the width; an erf is reckoned as one exponential
    products = 12 * shape.numbers * shape.channels
    return Work(
        (2 * shape.numbers + 12 * shape.channels**2) * itemsize,
        2 * products,
        4 * shape.numbers,
        arithmetic="float32" if itemsize == 4 else "bfloat16",
    )


OP = Op(
    "feed_forward",
    inputs,
    {**backend_forms(feed_forward), "torch": in_torch},
    work,
    cpu=(Shape(17, 32, 32, 64), Shape(17, 16, 12, 64)),
    inference=True,
)


def bench_feed_forward(measure_op, case):
    measure_op(OP, case)
