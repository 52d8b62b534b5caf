"""Group normalisation + SiLU in C++ (csrc/group_norm_silu), registered with torch.library."""

import ctypes
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._library import Arguments, Array, call, pointer
from ..selective_scan.reference import accumulator
from . import layout
from ._autograd import empty_gradients, empty_statistics, register


class _Arguments(Arguments):
    """``ua_group_norm_silu`` of csrc/group_norm_silu/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "channels", "groups", "rows")),
        ("channels_last", ctypes.c_int64),
        ("inner", ctypes.c_int64 * 2),
        *((name, ctypes.c_int64) for name in ("block", "blocks", "padded", "silu")),
        ("eps", ctypes.c_double),
        *((name, Array) for name in ("x", "grad", "out")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "embedding", "mean", "rstd")),
        *((name, ctypes.c_void_p) for name in ("grad_weight", "grad_bias", "grad_embedding")),
        *((name, ctypes.c_void_p) for name in ("sums", "coefficients")),
    ]


def _describe(arguments: _Arguments, tensors: dict[str, Tensor]) -> None:
    """Fill in shapes, strides and the blocks for x and the tensors that are read beside it."""
    x = tensors["x"]
    arguments.batch, arguments.channels = x.shape[:2]
    arguments.rows = x.numel() // (x.shape[0] * x.shape[1])
    arguments.channels_last = layout.is_rows(x)
    arguments.padded = -(-x.shape[1] // 16) * 16
    arguments.block, arguments.blocks = arguments.rows, 1
    if arguments.channels_last:
        sizes, strides = layout.row_axes(*tensors.values())
        arguments.inner[:] = sizes[1:]
        arguments.block, arguments.blocks = layout.blocks(x)
    else:
        strides = [[tensor.stride(1), 0, 0] for tensor in tensors.values()]
    for (name, tensor), own in zip(tensors.items(), strides):
        offsets = (ctypes.c_int64 * 4)(tensor.stride(0), *own)
        setattr(arguments, name, Array(tensor.data_ptr(), offsets))


def _call(entry: str, tensors: dict[str, Tensor], sums: int, values: int, **fields: Any) -> None:
    """Call the library on tensors like x, with workspaces of so many values a channel."""
    x = tensors["x"]
    pointers = {k: pointer(v) if isinstance(v, Tensor) else v for k, v in fields.items()}
    arguments = _Arguments(**pointers)
    _describe(arguments, tensors)
    batch, blocks, padded = arguments.batch, arguments.blocks, arguments.padded
    partial = x.new_empty(batch, blocks, sums, padded, dtype=torch.float64)
    table = x.new_empty(batch, values, padded, dtype=accumulator(x))
    arguments.sums, arguments.coefficients = partial.data_ptr(), table.data_ptr()
    call(entry, arguments, x)


@torch.library.custom_op("unianimate::group_norm_silu_native", mutates_args=())
def _forward(
    x: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    embedding: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    out = layout.empty(x)
    mean, rstd = empty_statistics(x, num_groups)
    _call(
        *("group_norm_silu_forward", {"x": x, "out": out}, 2, 3),
        groups=num_groups,
        silu=silu,
        eps=eps,
        weight=weight.contiguous(),
        bias=bias.contiguous(),
        embedding=None if embedding is None else embedding.contiguous(),
        mean=mean,
        rstd=rstd,
    )
    return out, mean, rstd


@torch.library.custom_op("unianimate::group_norm_silu_native_backward", mutates_args=())
def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    embedding: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gradients = empty_gradients(x, weight, embedding)
    out, grad_weight, grad_bias, grad_embedding = gradients
    _call(
        *("group_norm_silu_backward", {"x": x, "grad": grad, "out": out}, 3, 6),
        groups=mean.shape[1],
        silu=silu,
        weight=weight.contiguous(),
        bias=bias.contiguous(),
        embedding=None if embedding is None else embedding.contiguous(),
        mean=mean,
        rstd=rstd,
        grad_weight=grad_weight,
        grad_bias=grad_bias,
        grad_embedding=grad_embedding,
    )
    return gradients


register(_forward, _backward, planes=True)


def forward(
    x: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    embedding: Tensor | None,
    activation: str | None,
) -> Tensor:
    """Return the normalised, activated tensor in x's dtype and memory format."""
    out, _, _ = _forward(x, num_groups, weight, bias, eps, embedding, activation == "silu")
    return out
