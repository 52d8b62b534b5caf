"""Attention inside every frame, read in place, against torch's SDPA, which is the reference."""

import torch

from benchmarks.bench_temporal_attention import head_dim
from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.roofline import Work
from unianimate_kernels import spatial_attention


def inputs(shape, dtype, device):
    heads, size = shape.channels // head_dim(shape), (shape.batch * shape.frames, shape.space)
    return [
        torch.randn(*size, heads, head_dim(shape), device=device, dtype=dtype) for _ in range(3)
    ]


def work(shape, itemsize, backward):
    return Work(
        4 * shape.numbers * itemsize,
        2 * 2 * shape.numbers * shape.space,
        shape.numbers // head_dim(shape) * shape.space,
        arithmetic="float32" if itemsize == 4 else "bfloat16",
    )


OP = Op(
    "spatial_attention",
    inputs,
    backend_forms(spatial_attention),
    work,
    cpu=(Shape(17, 32, 32, 64),),
    inference=True,
)


def bench_spatial_attention(measure_op, case):
    measure_op(OP, case)
