"""`temporal_transformer`: a transformer over the frames, whose layers share no memory."""

from collections.abc import Sequence

from torch import Tensor

from .._autocast import autocast
from .._dispatch import choose
from .._inference import refusal
from .._repeated import repeated
from .._transformers import checked


@autocast("x", "norm", "proj_in", "attentions", "feed_forward", "proj_out")
@repeated
def temporal_transformer(
    x: Tensor,
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
    """Attend over the frames at every location, twice, widen and narrow; add what came in.

    With the statistics of the group norm over the clip::

        h = proj_in(GroupNorm(x))
        h = h + attention_1(LayerNorm(h)); h = h + attention_2(LayerNorm(h))
        y = x + proj_out(feed_forward(h))

    (the temporal transformer of ModelScope, arXiv 2308.06571; attention: Vaswani et al., arXiv
    1706.03762). I is ``num_heads * head_dim``.

    Args:
        x: (B, C, F, H, W); the fast form is channels-last in memory, which the result is.
        num_groups: groups of C / num_groups neighbouring channels.
        norm: weight and bias of the group norm, (C,).
        proj_in: weight (I, C) and bias (I,).
        attentions: two of (norm weight and bias (I,); to_q, to_k, to_v, to_out (I, I); bias (I,)).
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
    op = "temporal_transformer"
    weights = checked(
        op, x, num_groups, norm, proj_in, attentions, feed_forward, proj_out, num_heads
    )
    why = refusal((x, *weights))
    match choose(op, x, backend, {"native": why, "triton": why}):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case _:
            from .reference import forward
    return forward(x, num_groups, weights, num_heads, norm_eps, eps)
