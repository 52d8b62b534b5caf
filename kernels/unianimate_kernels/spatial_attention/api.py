"""`spatial_attention`: softmax attention of tokens to one another, or to a context."""

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_activations, expect_not_empty, expect_rank, expect_shape
from .._dispatch import choose
from .._inference import refusal


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
            The native one has no gradient.

    Returns:
        (N, L, heads, head_dim), contiguous, in q's dtype.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes or devices that do not fit, an empty axis, a strided last axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "spatial_attention"
    expect_rank(op, "q", q, "(N, L, heads, head_dim)")
    expect_rank(op, "k", k, "(N, M, heads, head_dim)")
    expect_activations(op, {"q": q, "k": k, "v": v})
    expect_shape(op, "k", k, (q.shape[0], k.shape[1], *q.shape[2:]))
    expect_shape(op, "v", v, tuple(k.shape))
    expect_not_empty(op, "q", q)
    expect_not_empty(op, "k", k)
    if choose(op, q, backend, {"native": refusal((q, k, v))}) == "native":
        from .native import forward
    else:
        from .reference import forward
    return forward(q, k, v)
