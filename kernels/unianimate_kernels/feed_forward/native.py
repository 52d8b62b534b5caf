"""The feed-forward in C++ (csrc/feed_forward), registered with torch.library. Forward only."""

import ctypes
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._inference import computes_in
from .._library import Arguments, call
from .._registration import operator

# more outputs than a panel of the library has, and rows than an item
_PANEL = 32
_ROWS = 96
_WEIGHTS = 6


class _Arguments(Arguments):
    """``ua_feed_forward`` of csrc/feed_forward/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("rows", "dim", "hidden")),
        ("x", ctypes.c_void_p),
        ("weights", ctypes.c_void_p * _WEIGHTS),
        *((name, ctypes.c_void_p) for name in ("y", "workspace")),
        *((name, ctypes.c_int64) for name in ("workspace_size", "x_stride")),
        ("eps", ctypes.c_double),
    ]


def _widen_and_narrow(x: Tensor, weights: list[Tensor], eps: float) -> Tensor:
    # a view, but where rows lie at no single stride
    rows = x.reshape(-1, x.shape[-1])
    dim, hidden = weights[4].shape
    y = x.new_empty(x.shape)
    dense = [weight.contiguous() for weight in weights]
    size = 2 * (hidden + _PANEL) * dim + (dim + _PANEL) * hidden
    size += torch.get_num_threads() * _ROWS * (dim + hidden)
    workspace = x.new_empty(size, dtype=torch.float32)
    arguments = _Arguments(
        rows=rows.shape[0],
        dim=dim,
        hidden=hidden,
        x=rows.data_ptr(),
        weights=tuple(weight.data_ptr() for weight in dense),
        y=y.data_ptr(),
        workspace=workspace.data_ptr(),
        workspace_size=size,
        x_stride=rows.stride(0),
        eps=eps,
    )
    call("feed_forward_forward", arguments, x)
    return y


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
    weights = [norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out]
    if computes_in(x.dtype, *weight_out.shape):
        return _widen_and_narrow(x, weights, eps)
    return _widen_and_narrow(x.float(), [w.float() for w in weights], eps).to(x.dtype)


@_forward.register_fake
def _(x: Tensor, *others: Any) -> Tensor:
    return x.new_empty(x.shape)


forward: Callable[..., Tensor] = _forward
