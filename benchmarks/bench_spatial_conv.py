"""The 3x3 convolution of every frame: ours for inference, and torch's."""

import torch

from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.roofline import Work
from unianimate_kernels import spatial_conv


def inputs(shape, dtype, device):
    size = (shape.batch * shape.frames, shape.height, shape.width, shape.channels)
    x = torch.randn(size, device=device, dtype=dtype).permute(0, 3, 1, 2)
    weight = torch.randn(shape.channels, shape.channels, 3, 3, device=device)
    weight = (weight * (9 * shape.channels) ** -0.5).to(dtype)
    return [x, weight, torch.randn(shape.channels, device=device, dtype=dtype)]


def work(shape, itemsize, backward):
    # the products of Winograd's F(2x2, 3x3), 4 a result and input channel, in bfloat16 those of
    # F(4x4, 3x3), 2.25 and in float32 too; torch's form takes 9
    weights, products = 9 * shape.channels**2, 4 if itemsize == 4 else 2.25
    return Work(
        (2 * shape.numbers + weights) * itemsize,
        int(2 * products * shape.numbers * shape.channels),
        arithmetic="float32",
    )


OP = Op(
    "spatial_conv",
    inputs,
    backend_forms(spatial_conv),
    work,
    cpu=(Shape(17, 32, 32, 64), Shape(17, 48, 32, 320)),
    inference=True,
)


def bench_spatial_conv(measure_op, case):
    measure_op(OP, case)
