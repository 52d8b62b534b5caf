"""`temporal_attention_layer`: attention over the frames without queries and keys in memory."""

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_activations, expect_not_empty, expect_rank, expect_shape
from .._dispatch import choose
from .._inference import refusal


@autocast("x", "norm_weight", "norm_bias", "to_q", "to_k", "to_v", "to_out", "bias")
def temporal_attention_layer(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    to_q: Tensor,
    to_k: Tensor,
    to_v: Tensor,
    to_out: Tensor,
    bias: Tensor,
    *,
    num_heads: int,
    eps: float = 1e-5,
    backend: str | None = None,
) -> Tensor:
    """Normalise, attend over the frames at every location, project, and add what came in.

    With ``n = LayerNorm(x)``: ``x + attention(n to_q.T, n to_k.T, n to_v.T) to_out.T + bias``
    (Vaswani et al., arXiv 1706.03762; normalisation before, arXiv 2002.04745).

    Args:
        x: (B, F, S, C), any strides but a dense last axis.
        norm_weight: (C,).
        norm_bias: (C,).
        to_q: (num_heads * head_dim, C), as to_k and to_v.
        to_k: see to_q.
        to_v: see to_q.
        to_out: (C, num_heads * head_dim).
        bias: (C,).
        num_heads: heads.
        eps: added to the variance of a row.
        backend: a name binds the call to that backend; None takes the first that can serve it.
            The native one has no gradient.

    Returns:
        (B, F, S, C), contiguous, in x's dtype.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes or devices that do not fit, an empty axis, a strided last one.
        BackendError: the named backend cannot serve the call.
    """
    op = "temporal_attention_layer"
    weights = {
        "norm_weight": norm_weight,
        "norm_bias": norm_bias,
        "to_q": to_q,
        "to_k": to_k,
        "to_v": to_v,
        "to_out": to_out,
        "bias": bias,
    }
    expect_activations(op, {"x": x, **weights})
    expect_rank(op, "x", x, "(B, F, S, C)")
    expect_not_empty(op, "x", x)
    dim = x.shape[-1]
    if to_q.dim() != 2 or to_q.shape[1] != dim or num_heads < 1 or to_q.shape[0] % num_heads:
        raise ValueError(
            f"{op}: to_q must be (num_heads * head_dim, C) with {num_heads} heads and the "
            f"{dim} channels of x, got {tuple(to_q.shape)}"
        )
    inner = to_q.shape[0]
    expect_not_empty(op, "to_q", to_q)
    expect_shape(op, "norm_weight", norm_weight, (dim,))
    expect_shape(op, "norm_bias", norm_bias, (dim,))
    expect_shape(op, "to_k", to_k, (inner, dim))
    expect_shape(op, "to_v", to_v, (inner, dim))
    expect_shape(op, "to_out", to_out, (dim, inner))
    expect_shape(op, "bias", bias, (dim,))
    limits = {"native": refusal((x, *weights.values()))}
    if choose(op, x, backend, limits) == "native":
        from .native import forward
    else:
        from .reference import forward
    return forward(x, norm_weight, norm_bias, to_q, to_k, to_v, to_out, bias, num_heads, eps)
