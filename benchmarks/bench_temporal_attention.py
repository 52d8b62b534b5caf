"""Attention over frames, read in place, against SDPA on views and on rearranged copies."""

from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.ops import Op, Shape, backend_forms, compiled
from benchmarks.roofline import Work
from unianimate_kernels import temporal_attention


def head_dim(shape):
    return 64 if shape.channels % 64 == 0 else 32


def inputs(shape, dtype, device):
    # three views of one projection, as in `TemporalAdapter`
    heads, size = shape.channels // head_dim(shape), (shape.batch, shape.frames, shape.space)
    qkv = torch.randn(*size, 3, heads, head_dim(shape), device=device, dtype=dtype)
    return list(qkv.unbind(3))


def on_views(q, k, v):
    rows = (t.permute(0, 2, 3, 1, 4).flatten(0, 1) for t in (q, k, v))
    y = scaled_dot_product_attention(*rows)
    return y.unflatten(0, (q.shape[0], -1)).permute(0, 3, 1, 2, 4)


def rearranged(q, k, v):
    """Do as the official code: b f s h d -> (b s h) f d copies, and back."""
    batch, frames, space, heads, dim = q.shape
    rows = (t.permute(0, 2, 3, 1, 4).reshape(-1, frames, dim).contiguous() for t in (q, k, v))
    out = scaled_dot_product_attention(*rows).view(batch, space, heads, frames, dim)
    return out.permute(0, 3, 1, 2, 4).contiguous()


def work(shape, itemsize, backward):
    scores = shape.numbers // head_dim(shape) * shape.frames
    # two products of scores forward, five backward; softmax twice
    products, moved = (7, 12) if backward else (2, 4)
    return Work(
        moved * shape.numbers * itemsize,
        products * 2 * shape.numbers * shape.frames,
        (2 if backward else 1) * scores,
        arithmetic="float32" if itemsize == 4 else "bfloat16",
    )


OP = Op(
    "temporal_attention",
    inputs,
    {
        **backend_forms(temporal_attention),
        "SDPA on views": on_views,
        "SDPA, rearranged": rearranged,
        **compiled(partial(temporal_attention, backend="reference")),
    },
    work,
    cpu=(Shape(17, 48, 32, 320),),
)


def bench_temporal_attention(measure_op, case):
    measure_op(OP, case)
