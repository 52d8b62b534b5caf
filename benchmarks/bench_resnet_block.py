"""Two 3x3 convolutions of frames with their norms in one op against torch's, in turn."""

import math

import torch
from torch.nn.functional import conv2d, group_norm, linear, silu

from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.roofline import Work
from unianimate_kernels import resnet_block

_GROUPS, _EPS, _EMB_DIM = 32, 1e-5, 256


def inputs(shape, dtype, device):
    def draw(*size):
        return torch.randn(size, device=device, dtype=dtype)

    dim, frames = shape.channels, shape.batch * shape.frames
    norm, conv, emb_proj = [(dim,), (dim,)], [(dim, dim, 3, 3), (dim,)], [(dim, _EMB_DIM), (dim,)]
    return [
        draw(frames, shape.height, shape.width, dim).permute(0, 3, 1, 2),
        draw(shape.batch, _EMB_DIM),
        *(
            draw(*size) * math.prod(size[1:]) ** -0.5
            for size in (*norm, *conv, *emb_proj, *norm, *conv)
        ),
    ]


def _layers(weights):
    return [list(weights[i : i + 2]) for i in range(0, len(weights), 2)]


def in_one_op(x, embedding, *weights, backend):
    return resnet_block(x, embedding, _GROUPS, *_layers(weights), eps=_EPS, backend=backend)


def in_torch(x, embedding, *weights):
    norm1, conv1, emb_proj, norm2, conv2 = _layers(weights)
    h = conv2d(silu(group_norm(x, _GROUPS, *norm1, _EPS)), *conv1, padding=1)
    shift = linear(silu(embedding), *emb_proj).repeat_interleave(len(x) // len(embedding), 0)
    h = silu(group_norm(h + shift[:, :, None, None], _GROUPS, *norm2, _EPS))
    return x + conv2d(h, *conv2, padding=1)


def work(shape, itemsize, backward):
    # the products of Winograd's F(2x2, 3x3) or, in bfloat16, those of torch's form
    products = 4 if itemsize == 4 else 9
    return Work(
        (2 * shape.numbers + 18 * shape.channels**2) * itemsize,
        4 * products * shape.numbers * shape.channels,
        2 * shape.numbers,
        arithmetic="float32" if itemsize == 4 else "bfloat16",
    )


OP = Op(
    "resnet_block",
    inputs,
    {**backend_forms(in_one_op, "resnet_block"), "torch": in_torch},
    work,
    cpu=(Shape(17, 32, 32, 64), Shape(17, 16, 12, 64)),
    inference=True,
)


def bench_resnet_block(measure_op, case):
    measure_op(OP, case)
