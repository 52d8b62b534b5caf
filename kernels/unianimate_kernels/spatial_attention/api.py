"""`spatial_attention`: softmax attention of tokens to one another, or to a context."""

import torch
from torch import Tensor

from .._autocast import autocast
from .._checks import expect_activations, expect_not_empty, expect_rank, expect_shape
from .._dispatch import choose
from .._library import bfloat16_products

_PRODUCTS = bfloat16_products()


@autocast("q", "k", "v")
def spatial_attention(q: Tensor, k: Tensor, v: Tensor, *, backend: str | None = None) -> Tensor:
    """Attend from every token of an item to its keys, separately at each head.

    ``softmax(q[l] . k[m] / sqrt(head_dim) over m) v[m]`` (Vaswani et al., arXiv 1706.03762,
    equation 1), read in place: q, k and v are views of the projections, nothing is rearranged.

    Args:
        q: (N, L, heads, head_dim), any strides but a dense last axis.
        k: (N, M, heads, head_dim), likewise.
        v: like k.
        backend: a name binds the call to that backend; None takes the first that can serve it.

    Returns:
        (N, L, heads, head_dim), contiguous, in q's dtype.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes or devices that do not fit, an empty axis, a strided last axis.
        BackendError: the named backend cannot serve the call; "native" makes no gradients.
    """
    op = "spatial_attention"
    expect_rank(op, "q", q, "(N, L, heads, head_dim)")
    expect_rank(op, "k", k, "(N, M, heads, head_dim)")
    expect_activations(op, {"q": q, "k": k, "v": v})
    expect_shape(op, "k", k, (q.shape[0], k.shape[1], *q.shape[2:]))
    expect_shape(op, "v", v, tuple(k.shape))
    expect_not_empty(op, "q", q)
    expect_not_empty(op, "k", k)
    match choose(op, q, backend, {"native": _native_limit(q, k, v)}):
        case "native":
            from .native import forward
        case _:
            from .reference import forward
    return forward(q, k, v)


def _native_limit(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Return why the C++ code cannot take a call, or None."""
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        return "it makes no gradients: call it under torch.no_grad(), or name another backend"
    if q.dtype == torch.bfloat16 and not _PRODUCTS:
        return "in bfloat16 it needs a CPU with AVX512-BF16"
    return None
