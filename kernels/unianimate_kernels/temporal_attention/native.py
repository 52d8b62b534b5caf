"""Attention over frames in C++ (csrc/temporal_attention), registered with torch.library."""

import ctypes
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._dense import dense_last
from .._library import Arguments, Array, array, call
from .._registration import operator

# lanes of the widest vectors: the library rounds rows and scores up to no more than this
_LANES = 16
# what the dense copies of one location should fit into: half of a small L2 cache
_CACHE_BYTES = 256 * 1024


class _Arguments(Arguments):
    """``ua_temporal_attention`` of csrc/temporal_attention/api.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("batch", "frames", "locations", "heads", "dim")),
        *((name, Array) for name in ("q", "k", "v", "out", "grad", "dq", "dk", "dv")),
        ("workspace", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("slots", "slot_size", "slot_heads")),
        ("scale", ctypes.c_double),
    ]


def _call(entry: str, copies: int, scores: int, scale: float, tensors: dict[str, Tensor]) -> None:
    """Run ``entry`` with room for ``copies`` tensors and ``scores`` sets of scores a location."""
    q = tensors["q"]
    batch, frames, locations, heads, dim = q.shape
    width, rows = (-(-n // _LANES) * _LANES for n in (dim, frames))
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    head_size = copies * frames * width
    slot_heads = max(1, min(heads, _CACHE_BYTES // (head_size * dtype.itemsize)))
    slot_size = slot_heads * head_size + (scores * rows + width) * _LANES
    # a few runs of locations a thread, so that a thread that is late loses little
    slots = min(batch * locations, 4 * torch.get_num_threads())
    workspace = q.new_empty(slots * slot_size, dtype=dtype)
    arguments = _Arguments(
        batch=batch,
        frames=frames,
        locations=locations,
        heads=heads,
        dim=dim,
        workspace=workspace.data_ptr(),
        slots=slots,
        slot_size=slot_size,
        slot_heads=slot_heads,
        scale=scale,
        **{name: array(tensor) for name, tensor in tensors.items()},
    )
    call(entry, arguments, q)


@operator("unianimate::temporal_attention_native")
def _forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    out = q.new_empty(q.shape)
    _call("temporal_attention_forward", 3, 1, scale, {"q": q, "k": k, "v": v, "out": out})
    return out


@operator("unianimate::temporal_attention_native_backward")
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    grad = dense_last(grad)
    dq, dk, dv = (q.new_empty(q.shape) for _ in range(3))
    tensors = {"q": q, "k": k, "v": v, "grad": grad, "dq": dq, "dk": dk, "dv": dv}
    _call("temporal_attention_backward", 6, 2, scale, tensors)
    return dq, dk, dv


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return q.new_empty(q.shape)


@_backward.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float], output: Tensor) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *_backward(grad, *ctx.saved_tensors, ctx.scale), None


_forward.register_autograd(_gradients, setup_context=_setup_context)


def forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return (B, F, S, heads, head_dim)."""
    return _forward(q, k, v, scale)
