"""`spatial_transformer`: a transformer over the locations of each frame, in one op."""

from collections.abc import Sequence

from torch import Tensor

from .._autocast import autocast
from .._dispatch import choose
from .._inference import refusal
from .._repeated import repeated
from .._transformers import checked


@autocast("x", "context", "norm", "proj_in", "attentions", "feed_forward", "proj_out")
@repeated
def spatial_transformer(
    x: Tensor,
    context: Tensor,
    num_groups: int,
    norm: Sequence[Tensor],
    proj_in: Sequence[Tensor],
    attentions: Sequence[Sequence[Tensor]],
    feed_forward: Sequence[Tensor],
    proj_out: Sequence[Tensor],
    *,
    num_heads: int,
    norm_eps: float = 1e-6,
    eps: float = 1e-5,
    backend: str | None = None,
) -> Tensor:
    """Attend among the locations of a frame, and to the context; widen, narrow, add what came in.

    On the tokens of every frame, with the statistics of the group norm of each frame::

        h = proj_in(GroupNorm(x))
        h = h + attention_1(LayerNorm(h)); h = h + attention_2(LayerNorm(h), context)
        y = x + proj_out(feed_forward(h))

    (Rombach et al., arXiv 2112.10752; attention: Vaswani et al., arXiv 1706.03762). I is
    ``num_heads * head_dim``.

    Args:
        x: (B, C, F, H, W); the fast form is channels-last in memory, which the result is.
        context: (B, M, D), of an item, not normalised.
        num_groups: groups of C / num_groups neighbouring channels.
        norm: weight and bias of the group norm, (C,).
        proj_in: weight (I, C) and bias (I,).
        attentions: two of (norm weight and bias (I,); to_q, to_k, to_v, to_out (I, I); bias (I,)),
            to_k and to_v of the second (I, D).
        feed_forward: the weights of the op `feed_forward`, of I channels.
        proj_out: weight (C, I) and bias (C,).
        num_heads: heads.
        norm_eps: added to the variances of the group norm.
        eps: added to the variances of the others.
        backend: a name binds the call to that backend; None takes the first that can serve it.
            The native and the Triton one have no gradient.

    Returns:
        (B, C, F, H, W) in x's dtype.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes, devices, num_groups or num_heads that do not fit, an empty axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "spatial_transformer"
    layers = (norm, proj_in, attentions, feed_forward, proj_out)
    weights = checked(op, x, num_groups, *layers, num_heads, context)
    why = refusal((x, context, *weights))
    match choose(op, x, backend, {"native": why, "triton": why}):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case _:
            from .reference import forward
    return forward(x, context, num_groups, weights, num_heads, norm_eps, eps)
