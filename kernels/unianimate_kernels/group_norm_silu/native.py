"""Group normalisation + SiLU in C++ (csrc/group_norm_silu), registered with torch.library."""

import ctypes
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._library import Arguments, Array, call, pointer
from . import layout

# values of x that share one partial sum: large enough to make the sums cheap, small enough to
# keep every thread busy and the block in the cache
_BLOCK = 65536
_MAX_BLOCKS = 128


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


def _accumulator(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


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
        fewest = -(-arguments.rows // _MAX_BLOCKS)
        arguments.block = max(fewest, _BLOCK // x.shape[1], 4)
        arguments.blocks = -(-arguments.rows // arguments.block)
    else:
        strides = [[tensor.stride(1), 0, 0] for tensor in tensors.values()]
    for (name, tensor), own in zip(tensors.items(), strides):
        offsets = (ctypes.c_int64 * 4)(tensor.stride(0), *own)
        setattr(arguments, name, Array(tensor.data_ptr(), offsets))


def _workspaces(arguments: _Arguments, x: Tensor, sums: int, values: int) -> tuple[Tensor, Tensor]:
    shape = (arguments.batch, arguments.blocks, sums, arguments.padded)
    partial = x.new_empty(shape, dtype=torch.float64)
    table = x.new_empty(arguments.batch, values, arguments.padded, dtype=_accumulator(x))
    arguments.sums, arguments.coefficients = partial.data_ptr(), table.data_ptr()
    return partial, table


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
    weight, bias = weight.contiguous(), bias.contiguous()
    embedding = None if embedding is None else embedding.contiguous()
    out = layout.empty(x)
    mean = x.new_empty(x.shape[0], num_groups, dtype=_accumulator(x))
    rstd = torch.empty_like(mean)
    arguments = _Arguments(
        groups=num_groups,
        silu=silu,
        eps=eps,
        weight=pointer(weight),
        bias=pointer(bias),
        embedding=pointer(embedding),
        mean=pointer(mean),
        rstd=pointer(rstd),
    )
    _describe(arguments, {"x": x, "out": out})
    workspaces = _workspaces(arguments, x, 2, 3)
    call("group_norm_silu_forward", arguments, x)
    del workspaces
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
    weight, bias = weight.contiguous(), bias.contiguous()
    embedding = None if embedding is None else embedding.contiguous()
    out = layout.empty(x)
    if layout.refusal(x, grad) is not None:
        grad = layout.empty(x).copy_(grad)
    grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
    grad_embedding = x.new_empty(0) if embedding is None else torch.empty_like(embedding)
    arguments = _Arguments(
        groups=mean.shape[1],
        silu=silu,
        weight=pointer(weight),
        bias=pointer(bias),
        embedding=pointer(embedding),
        mean=pointer(mean),
        rstd=pointer(rstd),
        grad_weight=pointer(grad_weight),
        grad_bias=pointer(grad_bias),
        grad_embedding=pointer(grad_embedding),
    )
    _describe(arguments, {"x": x, "grad": grad, "out": out})
    workspaces = _workspaces(arguments, x, 3, 6)
    call("group_norm_silu_backward", arguments, x)
    del workspaces
    return out, grad_weight, grad_bias, grad_embedding


@_forward.register_fake
def _(
    x: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    embedding: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.new_empty(x.shape[0], num_groups, dtype=_accumulator(x))
    return layout.empty(x), mean, torch.empty_like(mean)


@_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    embedding: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_embedding = x.new_empty(0) if embedding is None else x.new_empty(embedding.shape)
    parameters = x.new_empty(weight.shape), x.new_empty(bias.shape)
    return layout.empty(x), *parameters, grad_embedding


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, weight, bias, _, embedding, silu = inputs
    _, mean, rstd = output
    ctx.save_for_backward(x, weight, bias, embedding, mean, rstd)
    ctx.silu = silu


def _gradients(
    ctx: Any, grad: Tensor, grad_mean: Tensor, grad_rstd: Tensor
) -> tuple[Tensor | None, ...]:
    # mean and rstd leave no further than this file: they have no gradient of their own
    saved = ctx.saved_tensors  # asked for once, as gradient checkpointing wants it
    embedding = saved[3]
    x, weight, bias, shift = _backward(grad, *saved, ctx.silu)
    return x, None, weight, bias, None, None if embedding is None else shift, None


_forward.register_autograd(_gradients, setup_context=_setup_context)


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
