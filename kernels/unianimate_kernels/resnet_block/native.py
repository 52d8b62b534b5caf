"""The block in C++ (csrc/resnet_block), registered with torch.library. Forward only."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor

from .._inference import computes_in
from .._library import Arguments, Array, array
from .._packed import Packed, packed
from .._parts import round_up
from .._registration import operator
from .._repeated import call
from ..spatial_conv.native import dense, plan

# outputs of a panel of the library and lanes of its vectors, or more
_PANEL, _LANES = 32, 16
# pixels of an item of work: they tell how sums are cut, so the threads have no say in it
_CUT = 256
_CONVOLUTIONS = 2


class _Linear(ctypes.Structure):
    """``ua_linear`` of csrc/layers.h."""

    _fields_: ClassVar = [(name, ctypes.c_void_p) for name in ("weight", "bias")]


class _NormedConv(ctypes.Structure):
    """``ua_normed_conv`` of csrc/resnet_block/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_void_p) for name in ("norm_weight", "norm_bias", "weight", "bias")),
        *((name, ctypes.c_int64) for name in ("channels_last", "block")),
    ]


class _Arguments(Arguments):
    """``ua_resnet_block`` of csrc/resnet_block/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("items", "height", "width", "dim_in", "dim_out")),
        *((name, ctypes.c_int64) for name in ("groups", "embeddings", "emb_dim")),
        *((name, Array) for name in ("x", "y", "embedding")),
        ("convs", _NormedConv * _CONVOLUTIONS),
        *((name, _Linear) for name in ("emb_proj", "skip")),
        ("packed", Packed),
        ("workspace", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("workspace_size", "places", "tiles", "cut")),
        ("eps", ctypes.c_double),
    ]


def _convolve(
    x: Tensor, embedding: Tensor | None, num_groups: int, layers: list[list[Tensor]], eps: float
) -> Tensor:
    norm1, conv1, emb_proj, norm2, conv2, skip = layers
    pictures = x.permute(0, 2, 3, 1)
    if x.stride(1) != 1 or x.stride(2) != x.stride(3) * x.shape[3]:
        pictures = pictures.contiguous()
    rows = pictures.flatten(1, 2)
    items, channels, height, width = x.shape
    pixels, out = height * width, conv1[0].shape[0]
    y = x.new_empty(items, height, width, out)
    first, second = plan(x, channels, out), plan(x, out, out)
    wider = max(channels, out)
    embeddings, emb_dim = (0, 0) if embedding is None else embedding.shape
    # sums in double and tables, what is normalised, what is added, and what the threads work with
    size = items * round_up(wider, _LANES) * (16 * -(-pixels // _CUT) + 4 * 3)
    size += items * pixels * wider * x.dtype.itemsize + 4 * embeddings * (emb_dim + out)
    size += 64 + 4 * max(first.workspace, second.workspace)
    # dense, and alive until the call is over
    if embedding is not None and embedding.stride(1) != 1:
        embedding = embedding.contiguous()
    linears = [[tensor.contiguous() for tensor in layer] for layer in (emb_proj, skip)]
    convs = []
    for norm, (weight, bias), planned in ((norm1, conv1, first), (norm2, conv2, second)):
        taps, channels_last = dense(weight)
        scale, shift, bias = (tensor.contiguous() for tensor in (*norm, bias))
        convs.append(([scale, shift, taps, bias], channels_last, planned.block))
    matrices = [layer[0] for layer in (conv1, conv2, emb_proj, skip) if layer]
    values = first.packed + second.packed
    values += round_up(out, _PANEL) * ((channels if skip else 0) + emb_dim)
    with packed("resnet_block", matrices, 4 * values) as room:
        arguments = _Arguments(
            items=items,
            height=height,
            width=width,
            dim_in=channels,
            dim_out=out,
            groups=num_groups,
            embeddings=embeddings,
            emb_dim=emb_dim,
            x=array(rows),
            y=array(y.flatten(1, 2)),
            embedding=array(embedding),
            convs=tuple(
                (*(tensor.data_ptr() for tensor in parameters), *others)
                for parameters, *others in convs
            ),
            emb_proj=tuple(tensor.data_ptr() for tensor in linears[0]),
            skip=tuple(tensor.data_ptr() for tensor in linears[1]),
            packed=room,
            workspace_size=size,
            places=first.places,
            tiles=first.tiles,
            cut=_CUT,
            eps=eps,
        )
        inputs = ("x",) if embedding is None else ("x", "embedding")
        alive = (convs, linears, room)
        call("resnet_block_forward", arguments, x, inputs=inputs, size=size, alive=alive)
    return y.permute(0, 3, 1, 2)


@operator("unianimate::resnet_block_native")
def _forward(
    x: Tensor,
    embedding: Tensor | None,
    num_groups: int,
    norm1: Sequence[Tensor],
    conv1: Sequence[Tensor],
    emb_proj: Sequence[Tensor],
    norm2: Sequence[Tensor],
    conv2: Sequence[Tensor],
    skip: Sequence[Tensor],
    eps: float,
) -> Tensor:
    """Return (N, D, H, W), channels-last in memory."""
    layers = [list(layer) for layer in (norm1, conv1, emb_proj, norm2, conv2, skip)]
    emb_dim = 0 if embedding is None else embedding.shape[1]
    exact = computes_in(x.dtype, x.shape[1], conv1[0].shape[0], emb_dim)
    if not exact:
        layers = [[tensor.float() for tensor in layer] for layer in layers]
        embedding = None if embedding is None else embedding.float()
    y = _convolve(x if exact else x.float(), embedding, num_groups, layers, eps)
    return y.to(x.dtype)


@_forward.register_fake
def _(x: Tensor, embedding: Tensor | None, num_groups: int, *layers: Any) -> Tensor:
    items, _, height, width = x.shape
    (_, conv1, *_) = layers
    return x.new_empty(items, height, width, conv1[0].shape[0]).permute(0, 3, 1, 2)


forward: Callable[..., Tensor] = _forward
