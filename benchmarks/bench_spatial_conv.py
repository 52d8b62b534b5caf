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
    # a result and input channel: the products of Winograd's F(2x2, 3x3), which the CPU takes in
    # float32; all nine on a GPU, in bfloat16
    products, arithmetic = (4, "float32") if itemsize == 4 else (9, "bfloat16")
    return Work(
        (2 * shape.numbers + 9 * shape.channels**2) * itemsize,
        2 * products * shape.numbers * shape.channels,
        arithmetic=arithmetic,
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
