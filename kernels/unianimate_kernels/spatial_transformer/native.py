"""The transformer in C++ (csrc/spatial_transformer), registered with torch.library."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._inference import computes_in
from .._library import Arguments, Array, array
from .._packed import Packed, packed
from .._parts import part, round_up
from .._registration import operator
from .._repeated import call
from .._transformers import to_pack
from ..temporal_conv.native import like_video, rows_of

# lanes of the widest vectors, outputs of a panel, and tokens whose keys are made at once
_LANES, _PANEL, _GROUP = 16, 32, 64
# keys at once and queries at once: the scores of all of them stay in L1
_CHUNK, _BLOCK = 256, 24
# queries of a thread, rows of a register tile, and what their rows should fit into: with fewer of
# them every one would pay for reading all the weights
_RUN, _ROWS, _CACHE_BYTES = 192, 12, 2 * 1024 * 1024
# what keys and values may take, if those of one frame do
_TOGETHER_BYTES = 8 * 1024 * 1024
_WEIGHTS = 26


class _Arguments(Arguments):
    """``ua_spatial_transformer`` of csrc/spatial_transformer/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "frames", "tokens", "dim")),
        *((name, ctypes.c_int64) for name in ("groups", "heads", "head_dim", "hidden")),
        *((name, ctypes.c_int64) for name in ("keys", "context_dim")),
        *((name, Array) for name in ("x", "y", "context")),
        ("weights", ctypes.c_void_p * _WEIGHTS),
        ("packed", Packed),
        ("workspace", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("workspace_size", "thread_size", "together", "cut")),
        *((name, ctypes.c_int64) for name in ("run", "block", "chunk")),
        ("norm_eps", ctypes.c_double),
        ("eps", ctypes.c_double),
    ]


def _transform(
    x: Tensor,
    context: Tensor,
    num_groups: int,
    weights: Sequence[Tensor],
    num_heads: int,
    norm_eps: float,
    eps: float,
) -> Tensor:
    rows, y = rows_of(x), like_video(x, x.shape[1])
    batch, frames, tokens, dim = rows.shape
    items = batch * frames
    _, keys, context_dim = context.shape
    inner, hidden = weights[2].shape[0], weights[22].shape[1]
    head_dim, threads = inner // num_heads, torch.get_num_threads()
    width = round_up(head_dim, _PANEL)
    # normalised, and wide or what an attention makes of a query
    row = max(dim, inner) + max(hidden, head_dim + inner)
    # a few runs a thread, so that one that is late loses little
    fair = -(-items * tokens // (8 * threads))
    fitting = _CACHE_BYTES // (x.dtype.itemsize * row + 4 * width)
    run = part(tokens, max(_ROWS, min(_RUN, fair, fitting)), _ROWS)
    chunk = part(max(tokens, keys), _CHUNK, _GROUP)
    states = (2 * -(-run // _BLOCK) + 1) * round_up(_BLOCK, _LANES)
    for_queries = _BLOCK * chunk + run * (width + row) + states
    for_keys = _PANEL * max(inner, context_dim) + _GROUP * max(dim, inner)
    thread_size = round_up(max(for_queries, for_keys), _LANES)
    # of a frame: what a key and its value take, and the rows between the layers
    of_key = num_heads * (head_dim + width)
    of_frame = round_up(tokens, _GROUP) * of_key + tokens * inner
    together = max(1, min(items, _TOGETHER_BYTES // (4 * of_frame)))
    matrices, values = to_pack(weights)
    # those of queries and values are packed head by head
    values += 2 * num_heads * width * (inner + context_dim)
    channels = round_up(dim, _LANES)
    cuts = items * -(-tokens // _CHUNK)
    # sums in double; tables, contexts, frames, and what the threads need
    size = 16 * cuts * channels + 4 * 3 * items * channels
    size += 4 * (batch * round_up(keys, _GROUP) * of_key + together * of_frame)
    size += 4 * threads * thread_size
    # dense, and alive until the call is over
    dense = [weight.contiguous() for weight in weights]
    context = context if context.stride(2) == 1 else context.contiguous()
    with packed("spatial_transformer", matrices, 4 * values, num_heads) as room:
        arguments = _Arguments(
            batch=batch,
            frames=frames,
            tokens=tokens,
            dim=dim,
            groups=num_groups,
            heads=num_heads,
            head_dim=head_dim,
            hidden=hidden,
            keys=keys,
            context_dim=context_dim,
            x=array(rows),
            y=array(rows_of(y)),
            context=array(context),
            weights=tuple(weight.data_ptr() for weight in dense),
            packed=room,
            workspace_size=size,
            thread_size=thread_size,
            together=together,
            cut=_CHUNK,
            run=run,
            block=_BLOCK,
            chunk=chunk,
            norm_eps=norm_eps,
            eps=eps,
        )
        alive = (dense, room)
        call(
            "spatial_transformer_forward",
            arguments,
            x,
            inputs=("x", "context"),
            size=size,
            alive=alive,
        )
    return y


@operator("unianimate::spatial_transformer_native")
def _forward(
    x: Tensor,
    context: Tensor,
    num_groups: int,
    weights: Sequence[Tensor],
    num_heads: int,
    norm_eps: float,
    eps: float,
) -> Tensor:
    """Return (B, C, F, H, W), channels-last in memory."""
    sizes = (x.shape[1], context.shape[2], weights[2].shape[0] // num_heads, weights[22].shape[1])
    if computes_in(x.dtype, *sizes):
        return _transform(x, context, num_groups, weights, num_heads, norm_eps, eps)
    exact = [weight.float() for weight in weights]
    y = _transform(x.float(), context.float(), num_groups, exact, num_heads, norm_eps, eps)
    return y.to(x.dtype)


@_forward.register_fake
def _(x: Tensor, *others: Any) -> Tensor:
    return like_video(x, x.shape[1])


forward: Callable[..., Tensor] = _forward
