"""Group norm + SiLU on the frames of a video against torch's two ops."""

from functools import partial

import torch
from torch.nn.functional import group_norm, silu

from benchmarks.ops import Op, Shape, backend_forms, compiled
from benchmarks.roofline import Work
from unianimate_kernels import group_norm_silu


def inputs(shape, dtype, device):
    size = (shape.batch * shape.frames, shape.height, shape.width, shape.channels)
    x = torch.randn(size, device=device, dtype=dtype).permute(0, 3, 1, 2)
    parameters = (torch.randn(shape.channels, device=device, dtype=dtype) for _ in range(2))
    return [x, *parameters]


def norm(x, weight, bias, *, backend):
    return group_norm_silu(x, 32, weight, bias, backend=backend)


def two_ops(x, weight, bias):
    return silu(group_norm(x, 32, weight, bias))


def work(shape, itemsize, backward):
    # the statistics need a pass of their own: two reads and a write; backward reads x and the
    # cotangent twice and writes once
    moved = 8 if backward else 3
    return Work(
        moved * shape.numbers * itemsize,
        (28 if backward else 8) * shape.numbers,
        (2 if backward else 1) * shape.numbers,
    )


OP = Op(
    "group_norm_silu",
    inputs,
    {
        **backend_forms(norm, "group_norm_silu"),
        "torch": two_ops,
        **compiled(partial(norm, backend="reference")),
    },
    work,
    cpu=(Shape(17, 48, 32, 320, batch=2),),
)


def bench_group_norm_silu(measure_op, case):
    measure_op(OP, case)
