"""The layer in C++ (csrc/temporal_attention_layer), registered with torch.library. Forward only."""

import ctypes
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._library import Arguments, Array, array, call
from .._registration import operator
from ..selective_scan.reference import accumulator

# more outputs than a panel of the library has, and lanes than its vectors
_PANEL, _LANES = 32, 16
# what the rows of an item, and the copies of a location that is attended to, should fit into
_CACHE_BYTES, _COPY_BYTES = 512 * 1024, 256 * 1024
_WEIGHTS = ("norm_weight", "norm_bias", "to_q", "to_k", "to_v", "to_out", "bias")


class _Arguments(Arguments):
    """``ua_temporal_attention_layer`` of csrc/temporal_attention_layer/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "frames", "locations", "dim")),
        *((name, ctypes.c_int64) for name in ("heads", "head_dim")),
        ("x", Array),
        ("y", Array),
        *((name, ctypes.c_void_p) for name in (*_WEIGHTS, "workspace")),
        *((name, ctypes.c_int64) for name in ("workspace_size", "thread_size", "block")),
        ("eps", ctypes.c_double),
    ]


def _block(x: Tensor, row_bytes: int) -> int:
    """Return the locations of an item: their rows fit a cache, and every thread gets some items."""
    batch, frames, locations, _ = x.shape
    fitting = _CACHE_BYTES // (frames * row_bytes)
    shared = batch * locations // (4 * torch.get_num_threads())
    return max(1, min(fitting, shared, locations))


@operator("unianimate::temporal_attention_layer_native")
def _forward(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    to_q: Tensor,
    to_k: Tensor,
    to_v: Tensor,
    to_out: Tensor,
    bias: Tensor,
    num_heads: int,
    eps: float,
) -> Tensor:
    """Return (B, F, S, C) for (B, F, S, C)."""
    batch, frames, locations, dim = x.shape
    inner = to_q.shape[0]
    head_dim = inner // num_heads
    y = x.new_empty(x.shape)
    given = (norm_weight, norm_bias, to_q, to_k, to_v, to_out, bias)
    weights = {name: tensor.contiguous() for name, tensor in zip(_WEIGHTS, given)}
    dtype = accumulator(x)
    row = dim + 3 * inner
    block = _block(x, row * x.dtype.itemsize)
    width, rows = (-(-n // _LANES) * _LANES for n in (head_dim, frames))
    head_size = 3 * frames * width
    heads = max(1, min(num_heads, _COPY_BYTES // (head_size * dtype.itemsize)))
    thread_size = heads * head_size + (rows + width) * 2 * _LANES + block * frames * row
    size = 3 * (inner + _PANEL) * dim + (dim + _PANEL) * inner
    size += torch.get_num_threads() * thread_size
    workspace = torch.empty(size, dtype=dtype)
    arguments = _Arguments(
        batch=batch,
        frames=frames,
        locations=locations,
        dim=dim,
        heads=num_heads,
        head_dim=head_dim,
        x=array(x),
        y=array(y),
        workspace=workspace.data_ptr(),
        workspace_size=size,
        thread_size=thread_size,
        block=block,
        eps=eps,
        **{name: tensor.data_ptr() for name, tensor in weights.items()},
    )
    call("temporal_attention_layer_forward", arguments, x)
    return y


@_forward.register_fake
def _(x: Tensor, *others: Any) -> Tensor:
    return x.new_empty(x.shape)


forward: Callable[..., Tensor] = _forward
