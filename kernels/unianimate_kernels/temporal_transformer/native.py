"""The transformer in C++ (csrc/temporal_transformer), registered with torch.library."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._inference import computes_in
from .._library import Arguments, Array, array
from .._packed import Packed, packed
from .._parts import round_up
from .._registration import operator
from .._repeated import call
from .._transformers import to_pack
from ..selective_scan.reference import accumulator
from ..temporal_conv.native import like_video, rows_of

# more lanes than the vectors of the library have
_LANES = 16
# what the rows of an item, and the copies of a location that is attended to, should fit into: with
# fewer rows every one of them would pay for reading all the weights
_CACHE_BYTES, _COPY_BYTES = 2 * 1024 * 1024, 256 * 1024
# items there should be; they tell how sums are cut, so the threads have no say in it
_ITEMS = 16
_WEIGHTS = 26


class _Arguments(Arguments):
    """``ua_temporal_transformer`` of csrc/temporal_transformer/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "frames", "locations", "dim", "groups")),
        *((name, ctypes.c_int64) for name in ("heads", "head_dim", "hidden")),
        ("x", Array),
        ("y", Array),
        ("weights", ctypes.c_void_p * _WEIGHTS),
        ("packed", Packed),
        ("workspace", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("workspace_size", "thread_size", "block")),
        ("norm_eps", ctypes.c_double),
        ("eps", ctypes.c_double),
    ]


def _transform(
    x: Tensor,
    num_groups: int,
    weights: Sequence[Tensor],
    num_heads: int,
    norm_eps: float,
    eps: float,
) -> Tensor:
    rows, y = rows_of(x), like_video(x, x.shape[1])
    batch, frames, locations, dim = rows.shape
    inner, hidden = weights[2].shape[0], weights[22].shape[1]
    head_dim = inner // num_heads
    dtype = accumulator(x)
    # normalised, between the layers, and wide
    row = max(dim, inner) + inner + max(3 * inner, hidden)
    fitting = _CACHE_BYTES // (frames * row * x.dtype.itemsize)
    block = max(1, min(fitting, batch * locations // _ITEMS, locations))
    width = round_up(head_dim, _LANES)
    head_size = 3 * frames * width
    heads = max(1, min(num_heads, _COPY_BYTES // (head_size * dtype.itemsize)))
    scratch = heads * head_size + (round_up(frames, _LANES) + width) * 2 * _LANES
    thread_size = scratch + block * frames * row
    matrices, values = to_pack(weights)
    items = batch * -(-locations // block)
    channels = round_up(dim, _LANES)
    # sums in double, tables, and rows for every thread
    size = 16 * items * channels
    size += dtype.itemsize * 3 * batch * channels
    size += dtype.itemsize * torch.get_num_threads() * thread_size
    # dense, and alive until the call is over
    dense = [weight.contiguous() for weight in weights]
    with packed("temporal_transformer", matrices, 4 * values) as room:
        arguments = _Arguments(
            batch=batch,
            frames=frames,
            locations=locations,
            dim=dim,
            groups=num_groups,
            heads=num_heads,
            head_dim=head_dim,
            hidden=hidden,
            x=array(rows),
            y=array(rows_of(y)),
            weights=tuple(weight.data_ptr() for weight in dense),
            packed=room,
            workspace_size=size,
            thread_size=thread_size,
            block=block,
            norm_eps=norm_eps,
            eps=eps,
        )
        alive = (dense, room)
        call("temporal_transformer_forward", arguments, x, inputs=("x",), size=size, alive=alive)
    return y


@operator("unianimate::temporal_transformer_native")
def _forward(
    x: Tensor,
    num_groups: int,
    weights: Sequence[Tensor],
    num_heads: int,
    norm_eps: float,
    eps: float,
) -> Tensor:
    """Return (B, C, F, H, W), channels-last in memory."""
    if computes_in(x.dtype, x.shape[1], weights[2].shape[0], weights[22].shape[1]):
        return _transform(x, num_groups, weights, num_heads, norm_eps, eps)
    exact = [weight.float() for weight in weights]
    return _transform(x.float(), num_groups, exact, num_heads, norm_eps, eps).to(x.dtype)


@_forward.register_fake
def _(x: Tensor, *others: Any) -> Tensor:
    return like_video(x, x.shape[1])


forward: Callable[..., Tensor] = _forward
