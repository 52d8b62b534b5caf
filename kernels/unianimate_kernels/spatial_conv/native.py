"""The 3x3 convolution in C++ (csrc/spatial_conv), registered with torch.library. Forward only."""

import ctypes
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from .._library import Arguments, Array, array, call, pointer
from .._packed import Packed, packed
from .._parts import round_up
from .._registration import operator
from .tiles import tiled

# outputs of a panel of the library and lanes of its vectors, or more; rows of a register tile
_PANEL, _LANES, _ROWS = 32, 16, 12
# what the transformed values of the tiles of an item should fit into, and tiles enough that reading
# the packed weight does not matter
_CACHE_BYTES, _TILES = 384 * 1024, 48


class _Arguments(Arguments):
    """``ua_spatial_conv`` of csrc/spatial_conv/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("items", "height", "width", "dim_in", "dim_out")),
        ("x", Array),
        ("y", Array),
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
        ("packed", Packed),
        ("workspace", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("workspace_size", "channels_last")),
        *((name, ctypes.c_int64) for name in ("places", "tiles", "block")),
    ]


@operator("unianimate::spatial_conv_native")
def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (N, C_out, H, W), channels-last in memory."""
    rows = x.permute(0, 2, 3, 1)
    if rows.stride(3) != 1:
        rows = rows.contiguous()
    items, height, width, channels = rows.shape
    channels_last = weight.is_contiguous(memory_format=torch.channels_last)
    dense = weight if channels_last else weight.contiguous()
    out, threads = weight.shape[0], torch.get_num_threads()
    y = x.new_empty(items, height, width, out)
    places, tiles = tiled(x)
    row = round_up(channels, _LANES) + _LANES
    # a few items a thread, so that one that is late loses little
    fair = min(_TILES, _CACHE_BYTES // (4 * places * row), tiles // (4 * threads))
    block = max(1, fair // _ROWS) * _ROWS
    panels = -(-out // _PANEL)
    own = max(places * block * (row + _PANEL) + row, 9 * _PANEL * (channels + 1))
    values = places * panels * _PANEL * (channels + 1)
    workspace = torch.empty(threads * own, dtype=torch.float32)
    bias = None if bias is None else bias.contiguous()
    with packed("spatial_conv", [weight], 4 * values) as room:
        arguments = _Arguments(
            items=items,
            height=height,
            width=width,
            dim_in=channels,
            dim_out=out,
            x=array(rows),
            y=array(y),
            weight=dense.data_ptr(),
            bias=pointer(bias),
            packed=room,
            workspace=workspace.data_ptr(),
            workspace_size=threads * own,
            channels_last=channels_last,
            places=places,
            tiles=tiles,
            block=block,
        )
        call("spatial_conv_forward", arguments, x)
    return y.permute(0, 3, 1, 2)


@_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    items, _, height, width = x.shape
    return x.new_empty(items, height, width, weight.shape[0]).permute(0, 3, 1, 2)


forward: Callable[[Tensor, Tensor, Tensor | None], Tensor] = _forward
