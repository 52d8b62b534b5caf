"""Four convolutions over frames with their norms in one op against torch's, one after the other."""

import torch
from torch.nn.functional import conv3d, group_norm, silu

from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.roofline import Work
from unianimate_kernels import temporal_conv_block

_STAGES, _GROUPS, _EPS = 4, 32, 1e-5


def inputs(shape, dtype, device):
    dim = shape.channels
    size = (shape.batch, shape.frames, shape.height, shape.width, dim)
    x = torch.randn(size, device=device, dtype=dtype).permute(0, 4, 1, 2, 3)
    sizes = 3 * [(dim,)] + [(dim, dim, 3, 1, 1)]
    scale = (3 * dim) ** -0.5
    return [x, *(torch.randn(s, device=device, dtype=dtype) * scale for s in _STAGES * sizes)]


def in_one_op(x, *weights, backend):
    lists = [list(weights[i::4]) for i in range(4)]
    norm_weights, norm_biases, biases, convolutions = lists
    return temporal_conv_block(
        x, _GROUPS, norm_weights, norm_biases, convolutions, biases, eps=_EPS, backend=backend
    )


def in_torch(x, *weights):
    h = x
    for stage in range(_STAGES):
        scale, shift, bias, weight = weights[4 * stage : 4 * stage + 4]
        h = silu(group_norm(h, _GROUPS, scale, shift, _EPS))
        h = conv3d(h, weight, bias, padding=(1, 0, 0))
    return x + h


def work(shape, itemsize, backward):
    numbers = _STAGES * shape.numbers
    return Work(
        (2 * shape.numbers + 3 * _STAGES * shape.channels**2) * itemsize,
        6 * numbers * shape.channels,
        numbers,
        arithmetic="float32" if itemsize == 4 else "bfloat16",
    )


OP = Op(
    "temporal_conv_block",
    inputs,
    {**backend_forms(in_one_op, "temporal_conv_block"), "torch": in_torch},
    work,
    cpu=(Shape(17, 32, 32, 64), Shape(17, 16, 12, 64)),
    inference=True,
)


def bench_temporal_conv_block(measure_op, case):
    measure_op(OP, case)
