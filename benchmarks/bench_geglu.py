"""The gated GELU in one pass against torch's chunk, gelu and product."""

from functools import partial

import torch
from torch.nn.functional import gelu

from benchmarks.ops import Op, Shape, backend_forms, compiled
from benchmarks.roofline import Work
from unianimate_kernels import geglu


def inputs(shape, dtype, device):
    # the feed-forward is four times as wide as the video, and the gate as wide again
    size = (shape.batch * shape.frames * shape.space, 8 * shape.channels)
    return [torch.randn(size, device=device, dtype=dtype)]


def in_torch(x):
    value, gate = x.chunk(2, dim=-1)
    return value * gelu(gate)


def work(shape, itemsize, backward):
    numbers = 4 * shape.numbers
    # backward reads both halves and the cotangent and writes both halves
    moved = 8 if backward else 3
    return Work(moved * numbers * itemsize, 10 * numbers, (2 if backward else 1) * numbers)


OP = Op(
    "geglu",
    inputs,
    {
        **backend_forms(geglu),
        "torch": in_torch,
        **compiled(partial(geglu, backend="reference")),
    },
    work,
    cpu=(Shape(17, 24, 15, 320),),
)


def bench_geglu(measure_op, case):
    measure_op(OP, case)
