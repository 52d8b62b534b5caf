"""Mamba-2's scan: every backend."""

from functools import partial

import torch

from benchmarks.ops import Op, Shape, backend_forms, compiled
from benchmarks.roofline import Work
from unianimate_kernels import ssd_scan

WIDTH, D_STATE = 64, 64


def inputs(shape, dtype, device):
    size, heads = (shape.batch, shape.frames, shape.space), shape.channels // WIDTH

    def normal(*size, dtype=dtype):
        return torch.randn(*size, device=device, dtype=dtype)

    x, z = (normal(*size, heads, WIDTH) for _ in range(2))
    B, C = (normal(*size, 1, D_STATE) for _ in range(2))
    A, D, dt_bias = (normal(heads, dtype=torch.float32) for _ in range(3))
    return [x, normal(*size, heads), -A.exp(), B, C, D, z, dt_bias]


def work(shape, itemsize, backward):
    numbers, heads = shape.numbers, shape.channels // WIDTH
    rows = numbers // shape.channels  # frames and locations
    # a head either attends to the frames before, half of all, or carries its state; B and C belong
    # to all heads, so the products of the first form with them are shared
    attending = shape.frames * (D_STATE / heads + WIDTH)
    carrying = 4 * D_STATE * WIDTH
    flops = rows * heads * min(attending, carrying)
    projections = 2 * D_STATE * rows
    return Work(
        itemsize * ((8 if backward else 3) * numbers + (3 if backward else 1) * projections),
        (3.5 if backward else 1) * flops,
        (2 if backward else 1) * (numbers + 3 * rows * heads),
        arithmetic="float32" if itemsize == 4 else "bfloat16",
    )


OP = Op(
    "ssd_scan",
    inputs,
    {**backend_forms(ssd_scan), **compiled(partial(ssd_scan, backend="reference"))},
    work,
    cpu=(Shape(16, 24, 16, 128), Shape(65, 24, 16, 128)),
    widen=2,
    heavy={"reference": 2**21},
)


def bench_ssd_scan(measure_op, case):
    measure_op(OP, case)
