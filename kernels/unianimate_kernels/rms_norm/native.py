"""The norm in C++ (csrc/rms_norm), registered with torch.library."""

import ctypes
from typing import ClassVar

from torch import Tensor

from .._library import Arguments, call, pointer
from .._registration import operator


class _Arguments(Arguments):
    """``ua_rms_norm`` of csrc/rms_norm/api.h."""

    _fields_: ClassVar = [
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("x", "added", "weight", "out")),
        ("eps", ctypes.c_double),
    ]


@operator("unianimate::rms_norm_native")
def _forward(x: Tensor, weight: Tensor, eps: float, added: Tensor | None) -> Tensor:
    x, weight = x.contiguous(), weight.contiguous()
    added = None if added is None else added.contiguous()
    out = x.new_empty(x.shape)
    arguments = _Arguments(
        rows=x.numel() // x.shape[-1],
        width=x.shape[-1],
        x=x.data_ptr(),
        added=pointer(added),
        weight=weight.data_ptr(),
        out=out.data_ptr(),
        eps=eps,
    )
    call("rms_norm_forward", arguments, x)
    return out


@_forward.register_fake
def _(x: Tensor, weight: Tensor, eps: float, added: Tensor | None) -> Tensor:
    return x.new_empty(x.shape)


def forward(x: Tensor, weight: Tensor, eps: float, added: Tensor | None) -> Tensor:
    """Return (..., C)."""
    return _forward(x, weight, eps, added)
