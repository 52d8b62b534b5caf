"""The 3x3 convolution in C++ (csrc/spatial_conv), registered with torch.library. Forward only."""

import ctypes
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from .._library import Arguments, Array, array, pointer
from .._packed import Packed, packed
from .._parts import round_up
from .._registration import operator
from .._repeated import call
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
        *((name, Array) for name in ("x", "y", "add")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
        ("packed", Packed),
        ("workspace", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("workspace_size", "channels_last")),
        *((name, ctypes.c_int64) for name in ("places", "tiles", "block")),
    ]


class Plan(NamedTuple):
    """How the library convolves pictures."""

    places: int  # products of a tile
    tiles: int
    block: int  # tiles of an item of work
    workspace: int  # float32 that the threads work with
    packed: int  # float32 of the transformed weight


def plan(x: Tensor, channels: int, out: int) -> Plan:
    """Plan a convolution from and to so many channels of pictures like those of x."""
    threads = torch.get_num_threads()
    places, tiles = tiled(x)
    row = round_up(channels, _LANES) + _LANES
    # a few items a thread, so that one that is late loses little
    fair = min(_TILES, _CACHE_BYTES // (4 * places * row), tiles // (4 * threads))
    block = max(1, fair // _ROWS) * _ROWS
    own = max(places * block * (row + _PANEL) + row, 9 * _PANEL * (channels + 1))
    values = places * round_up(out, _PANEL) * (channels + 1)
    return Plan(places, tiles, block, threads * own, values)


def dense(weight: Tensor) -> tuple[Tensor, bool]:
    """Return a weight as the library reads it, and whether its channels are last."""
    channels_last = weight.is_contiguous(memory_format=torch.channels_last)
    return weight if channels_last else weight.contiguous(), channels_last


@operator("unianimate::spatial_conv_native")
def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (N, C_out, H, W), channels-last in memory."""
    rows = x.permute(0, 2, 3, 1)
    if rows.stride(3) != 1:
        rows = rows.contiguous()
    items, height, width, channels = rows.shape
    out = weight.shape[0]
    taps, channels_last = dense(weight)
    y = x.new_empty(items, height, width, out)
    planned = plan(x, channels, out)
    bias = None if bias is None else bias.contiguous()
    with packed("spatial_conv", [weight], 4 * planned.packed) as room:
        arguments = _Arguments(
            items=items,
            height=height,
            width=width,
            dim_in=channels,
            dim_out=out,
            x=array(rows),
            y=array(y),
            weight=taps.data_ptr(),
            bias=pointer(bias),
            packed=room,
            workspace_size=planned.workspace,
            channels_last=channels_last,
            places=planned.places,
            tiles=planned.tiles,
            block=planned.block,
        )
        alive, size = (taps, bias, room), 4 * planned.workspace
        call("spatial_conv_forward", arguments, x, inputs=("x",), size=size, alive=alive)
    return y.permute(0, 3, 1, 2)


@_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    items, _, height, width = x.shape
    return x.new_empty(items, height, width, weight.shape[0]).permute(0, 3, 1, 2)


forward: Callable[[Tensor, Tensor, Tensor | None], Tensor] = _forward
