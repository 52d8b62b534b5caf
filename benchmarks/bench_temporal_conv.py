"""The 3x1x1 convolution: ours, a (3, 1) conv2d on a view, and torch's conv3d."""

from functools import partial

import torch
from torch.nn.functional import conv2d, conv3d

from benchmarks.ops import Op, Shape, backend_forms, compiled
from benchmarks.roofline import Work
from unianimate_kernels import temporal_conv


def inputs(shape, dtype, device):
    size = (shape.batch, shape.frames, shape.height, shape.width, shape.channels)
    x = torch.randn(size, device=device, dtype=dtype).permute(0, 4, 1, 2, 3)
    weight = torch.randn(shape.channels, shape.channels, 3, 1, 1, device=device)
    weight = (weight * (3 * shape.channels) ** -0.5).to(dtype)
    return [x, weight, torch.randn(shape.channels, device=device, dtype=dtype)]


def on_a_view(x, weight, bias):
    y = conv2d(x.flatten(3), weight.squeeze(-1), bias, padding=(1, 0))
    return y.unflatten(3, x.shape[3:])


def work(shape, itemsize, backward):
    weights = 3 * shape.channels**2
    times, moved = (3, 5) if backward else (1, 2)
    return Work(
        (moved * shape.numbers + times * weights) * itemsize,
        times * 2 * 3 * shape.numbers * shape.channels,
        arithmetic="float32" if itemsize == 4 else "bfloat16",
    )


OP = Op(
    "temporal_conv",
    inputs,
    {
        **backend_forms(temporal_conv),
        "conv2d on a view": on_a_view,
        "conv3d": lambda *tensors: conv3d(*tensors, padding=(1, 0, 0)),
        **compiled(partial(temporal_conv, backend="reference")),
    },
    work,
    cpu=(Shape(17, 24, 16, 320),),
    heavy={"conv3d": 2**21},
)


def bench_temporal_conv(measure_op, case):
    measure_op(OP, case)
