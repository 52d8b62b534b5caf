"""The causal convolution against torch's depthwise conv1d after rearranging, and its peer."""

from functools import partial

import torch
from torch.nn.functional import conv1d, silu

from benchmarks.ops import Op, Shape, backend_forms, compiled
from benchmarks.roofline import Work
from unianimate_kernels import causal_conv1d

TAPS = 4


def inputs(shape, dtype, device):
    size = (shape.batch, shape.frames, shape.space, shape.channels)
    sizes = (size, (shape.channels, TAPS), (shape.channels,))
    return [torch.randn(size, device=device, dtype=dtype) for size in sizes]


def rearranged(x, weight, bias):
    rows = x.permute(0, 2, 3, 1).flatten(0, 1).contiguous()
    groups, padding = weight.shape[0], TAPS - 1
    y = conv1d(rows, weight[:, None], bias, padding=padding, groups=groups)[..., :-padding]
    return silu(y).unflatten(0, (x.shape[0], x.shape[2])).permute(0, 3, 1, 2).contiguous()


def work(shape, itemsize, backward):
    numbers = shape.numbers
    # backward reads x and the cotangent and writes one tensor; it convolves three times
    return Work(
        (5 if backward else 2) * numbers * itemsize,
        (8 if backward else 2) * TAPS * numbers,
        (2 if backward else 1) * numbers,
    )


OP = Op(
    "causal_conv1d",
    inputs,
    {
        **backend_forms(causal_conv1d),
        "conv1d, rearranged": rearranged,
        **compiled(partial(causal_conv1d, backend="reference")),
    },
    work,
    cpu=(Shape(17, 48, 32, 640),),
    widen=2,
    heavy={"conv1d, rearranged": 2**22},
)


def bench_causal_conv1d(measure_op, case):
    measure_op(OP, case)
