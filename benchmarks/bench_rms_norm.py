"""The RMS norm of a sum in one pass against torch's sum and norm."""

import torch

from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.roofline import Work
from unianimate_kernels import rms_norm


def inputs(shape, dtype, device):
    size = (shape.batch, shape.frames, shape.space, shape.channels)
    x, added = (torch.randn(size, device=device, dtype=dtype) for _ in range(2))
    return [x, torch.randn(shape.channels, device=device, dtype=dtype), added]


def of_a_sum(x, weight, added, **options):
    return rms_norm(x, weight, added=added, **options)


def in_torch(x, weight, added):
    return torch.rms_norm(x + added, weight.shape, weight, 1e-5)


def work(shape, itemsize, backward):
    return Work(3 * shape.numbers * itemsize, 5 * shape.numbers)


OP = Op(
    "rms_norm",
    inputs,
    {**backend_forms(of_a_sum, "rms_norm"), "torch": in_torch},
    work,
    cpu=(Shape(17, 24, 16, 640),),
    widen=2,
    inference=True,
)


def bench_rms_norm(measure_op, case):
    measure_op(OP, case)
