"""Group normalisation + SiLU in C++ (csrc/group_norm_silu), registered with torch.library."""

import ctypes
import functools
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._library import Arguments, Array, Strides, call, pointer
from .._registration import operator
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


@functools.lru_cache(maxsize=1024)
def _described(
    names: tuple[str, ...], cuda: bool, shape: torch.Size, *strides: tuple[int, ...]
) -> tuple[bytes, int, int]:
    """Describe tensors of one shape: x, and those that are read beside it.

    Returns:
        An argument block with everything but pointers filled in, the padded channels of all
        items, and how many blocks share them.
    """
    tensors = [torch.empty_strided(shape, own, device="meta") for own in strides]
    x = tensors[0]
    arguments = _Arguments(batch=x.shape[0], channels=x.shape[1])
    arguments.rows = x.numel() // (x.shape[0] * x.shape[1])
    arguments.channels_last = layout.is_rows(x)
    arguments.padded = -(-x.shape[1] // 16) * 16
    arguments.block, arguments.blocks = arguments.rows, 1
    if arguments.channels_last:
        sizes, inner = layout.row_axes(*tensors)
        arguments.inner[:] = sizes[1:]
        share = layout.thread_blocks if cuda else layout.blocks
        arguments.block, arguments.blocks = share(x)
    else:
        inner = [[tensor.stride(1), 0, 0] for tensor in tensors]
    for name, tensor, own in zip(names, tensors, inner, strict=True):
        setattr(arguments, name, Array(None, Strides(tensor.stride(0), *own)))
    return bytes(arguments), arguments.batch * arguments.padded, arguments.blocks


def _call(entry: str, tensors: dict[str, Tensor], sums: int, values: int, **fields: Any) -> None:
    """Call the library on tensors like x, with workspaces of so many values a channel."""
    x = tensors["x"]
    strides = (tensor.stride() for tensor in tensors.values())
    described, width, blocks = _described(tuple(tensors), x.is_cuda, x.shape, *strides)
    arguments = _Arguments.from_buffer_copy(described)
    for name, tensor in tensors.items():
        getattr(arguments, name).data = tensor.data_ptr()
    for name, value in fields.items():
        setattr(arguments, name, pointer(value) if isinstance(value, Tensor) else value)
    # sums of doubles, and behind them the coefficients, which are no wider
    workspace = x.new_empty(width * (blocks * sums + values), dtype=torch.float64)
    arguments.sums = workspace.data_ptr()
    arguments.coefficients = arguments.sums + 8 * width * blocks * sums
    call(entry, arguments, x)


@operator("unianimate::group_norm_silu_native")
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


@operator("unianimate::group_norm_silu_native_backward")
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
