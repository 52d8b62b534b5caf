"""Attention of tokens in C++ (csrc/spatial_attention), registered with torch.library."""

import ctypes
from typing import ClassVar

import torch
from torch import Tensor

from .._library import Arguments, Array, array, bfloat16_products, call
from .._parts import part, round_up
from .._registration import operator

# lanes of the widest vectors and keys of a panel: the library rounds up to no more than these
_LANES = 16
_PANEL = 64
# keys at once and queries at once: the scores of all of them stay in L1, and beside the keys and
# values all queries of a run in L2
_CHUNK = 256
_BLOCK = 24
_RUN = 384


class _Arguments(Arguments):
    """``ua_spatial_attention`` of csrc/spatial_attention/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("items", "queries", "keys", "heads", "dim")),
        *((name, Array) for name in ("q", "k", "v", "out")),
        ("workspace", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("slot_size", "run", "block", "chunk")),
        ("scale", ctypes.c_double),
    ]


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    items, queries, heads, dim = q.shape
    keys, threads = k.shape[1], torch.get_num_threads()
    # a few runs a thread, so that one that is late loses little
    fair = -(-items * heads * queries // (4 * threads))
    run = part(queries, max(_BLOCK, min(_RUN, fair)), _BLOCK)
    chunk = part(keys, _CHUNK, _PANEL)
    width = round_up(dim, _LANES)
    # keys, values, queries and results; scores; what the softmax has seen
    rows = (2 * chunk + _BLOCK + run) * width
    states = (2 * run // _BLOCK + 1) * round_up(_BLOCK, _LANES)
    slot_size = rows + _BLOCK * chunk + states
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    workspace = q.new_empty(threads * slot_size, dtype=dtype)
    out = q.new_empty(q.shape)
    arguments = _Arguments(
        items=items,
        queries=queries,
        keys=keys,
        heads=heads,
        dim=dim,
        q=array(q),
        k=array(k),
        v=array(v),
        out=array(out),
        workspace=workspace.data_ptr(),
        slot_size=slot_size,
        run=run,
        block=_BLOCK,
        chunk=chunk,
        scale=dim**-0.5,
    )
    call("spatial_attention_forward", arguments, q)
    return out


@operator("unianimate::spatial_attention_native")
def _forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.dtype == torch.bfloat16 and not bfloat16_products():
        return _attend(q.float(), k.float(), v.float()).to(q.dtype)
    return _attend(q, k, v)


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q.new_empty(q.shape)


def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return (N, L, heads, head_dim)."""
    return _forward(q, k, v)
