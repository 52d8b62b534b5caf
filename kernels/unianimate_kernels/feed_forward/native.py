"""The feed-forward in C++ (csrc/feed_forward), registered with torch.library. Forward only."""

import ctypes
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._library import Arguments, call
from .._registration import operator
from ..selective_scan.reference import accumulator

# more outputs than a panel of the library has, and rows than an item
_PANEL = 32
_ROWS = 96
_WEIGHTS = ("norm_weight", "norm_bias", "weight_in", "bias_in", "weight_out", "bias_out")


class _Arguments(Arguments):
    """``ua_feed_forward`` of csrc/feed_forward/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("rows", "dim", "hidden")),
        *((name, ctypes.c_void_p) for name in ("x", *_WEIGHTS, "y", "workspace")),
        *((name, ctypes.c_int64) for name in ("workspace_size", "x_stride")),
        ("eps", ctypes.c_double),
    ]


@operator("unianimate::feed_forward_native")
def _forward(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_in: Tensor,
    bias_in: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    eps: float,
) -> Tensor:
    """Return (..., C) for (..., C)."""
    # a view, but where rows lie at no single stride
    rows = x.reshape(-1, x.shape[-1])
    dim, hidden = weight_out.shape
    y = x.new_empty(x.shape)
    given = (norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out)
    weights = {name: tensor.contiguous() for name, tensor in zip(_WEIGHTS, given)}
    size = 2 * (hidden + _PANEL) * dim + (dim + _PANEL) * hidden
    size += torch.get_num_threads() * _ROWS * (dim + hidden)
    workspace = torch.empty(size, dtype=accumulator(x))
    arguments = _Arguments(
        rows=rows.shape[0],
        dim=dim,
        hidden=hidden,
        x=rows.data_ptr(),
        y=y.data_ptr(),
        workspace=workspace.data_ptr(),
        workspace_size=size,
        x_stride=rows.stride(0),
        eps=eps,
        **{name: tensor.data_ptr() for name, tensor in weights.items()},
    )
    call("feed_forward_forward", arguments, x)
    return y


@_forward.register_fake
def _(x: Tensor, *others: Any) -> Tensor:
    return x.new_empty(x.shape)


forward: Callable[..., Tensor] = _forward
