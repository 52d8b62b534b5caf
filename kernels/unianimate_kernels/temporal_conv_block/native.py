"""The block in C++ (csrc/temporal_conv_block), registered with torch.library. Forward only."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._inference import computes_in
from .._library import Arguments, Array, array
from .._packed import Packed, packed
from .._registration import operator
from .._repeated import call
from ..selective_scan.reference import accumulator
from ..temporal_conv.native import like_video, rows_of
from .api import STAGES

# more outputs than a panel of the library has, and lanes than its vectors
_PANEL, _LANES = 32, 16
# what the values of an item should fit into beside its products, the rows that make up for reading
# a weight even so, and items there should be: they tell how the sums are cut, so none of them may
# depend on the number of threads
_CACHE_BYTES, _ROWS, _ITEMS = 128 * 1024, 128, 8


class _Stage(ctypes.Structure):
    """``ua_stage`` of csrc/temporal_conv_block/api.h."""

    _fields_: ClassVar = [
        (name, ctypes.c_void_p) for name in ("norm_weight", "norm_bias", "weight", "bias")
    ]


class _Arguments(Arguments):
    """``ua_temporal_conv_block`` of csrc/temporal_conv_block/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "frames", "space", "channels", "groups")),
        ("block", ctypes.c_int64),
        ("x", Array),
        ("y", Array),
        ("stages", _Stage * STAGES),
        ("packed", Packed),
        ("workspace", ctypes.c_void_p),
        ("workspace_size", ctypes.c_int64),
        ("eps", ctypes.c_double),
    ]


def _convolve(
    x: Tensor,
    num_groups: int,
    norm_weights: Sequence[Tensor],
    norm_biases: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    eps: float,
) -> Tensor:
    rows, y = rows_of(x), like_video(x, x.shape[1])
    batch, frames, space, channels = rows.shape
    dtype = accumulator(x)
    fitting = _CACHE_BYTES // ((frames + 2) * channels * x.dtype.itemsize)
    block = min(max(fitting, _ROWS // (frames + 2)), batch * space // _ITEMS, space)
    block = max(1, block)
    block = -(-space // -(-space // block))  # items of one size
    width = -(-channels // _LANES) * _LANES
    panels = -(-channels // _PANEL)
    items = batch * -(-space // block)
    # of a weight four products of two frames
    of_stage = 4 * 4 * panels * _PANEL * channels
    # sums in double, tables, and for every thread the rows of those with two frames more, or a
    # panel of a weight
    shared = 3 * batch * width
    own = max(block * (2 * frames + 4), 3 * _PANEL) * channels + 64
    size = 16 * items * width + dtype.itemsize * (shared + torch.get_num_threads() * own)
    # dense, and alive until the call is over
    stages = [
        [tensor.contiguous() for tensor in stage]
        for stage in zip(norm_weights, norm_biases, weights, biases, strict=True)
    ]
    with packed("temporal_conv_block", weights, STAGES * of_stage, at_once=of_stage) as room:
        arguments = _Arguments(
            batch=batch,
            frames=frames,
            space=space,
            channels=channels,
            groups=num_groups,
            block=block,
            x=array(rows),
            y=array(rows_of(y)),
            stages=tuple(tuple(tensor.data_ptr() for tensor in stage) for stage in stages),
            packed=room,
            workspace_size=size,
            eps=eps,
        )
        alive = (stages, room)
        call("temporal_conv_block_forward", arguments, x, inputs=("x",), size=size, alive=alive)
    return y


@operator("unianimate::temporal_conv_block_native")
def _forward(
    x: Tensor,
    num_groups: int,
    norm_weights: Sequence[Tensor],
    norm_biases: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    eps: float,
) -> Tensor:
    """Return (B, C, F, H, W), channels-last in memory."""
    lists = [norm_weights, norm_biases, weights, biases]
    exact = computes_in(x.dtype, x.shape[1])
    if not exact:
        lists = [[tensor.float() for tensor in tensors] for tensors in lists]
    scales, shifts, kernels, added = lists
    y = _convolve(x if exact else x.float(), num_groups, scales, shifts, kernels, added, eps)
    return y.to(x.dtype)


@_forward.register_fake
def _(x: Tensor, *others: Any) -> Tensor:
    return like_video(x, x.shape[1])


forward: Callable[..., Tensor] = _forward
