"""`temporal_transformer`: a transformer over the frames, whose layers share no memory."""

from collections.abc import Sequence

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_alike, expect_not_empty, expect_rank, expect_shape
from .._dispatch import choose
from .._inference import refusal

ATTENTIONS = 2


@autocast("x", "norm", "proj_in", "attentions", "feed_forward", "proj_out")
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
            The native one has no gradient.

    Returns:
        (B, C, F, H, W) in x's dtype.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes, devices, num_groups or num_heads that do not fit, an empty axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "temporal_transformer"
    expect_rank(op, "x", x, "(B, C, F, H, W)")
    expect_not_empty(op, "x", x)
    channels = x.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"{op}: num_groups must divide the {channels} channels, got {num_groups}")
    if len(attentions) != ATTENTIONS:
        raise ValueError(f"{op}: attentions must be {ATTENTIONS} lists, got {len(attentions)}")
    inner, hidden = proj_in[0].shape[0], feed_forward[4].shape[-1]
    if num_heads < 1 or inner < 1 or inner % num_heads:
        raise ValueError(f"{op}: num_heads must divide the {inner} inner channels, got {num_heads}")
    of_inner, square = (inner,), (inner, inner)
    shapes: dict[str, tuple[Sequence[Tensor], list[tuple[int, ...]]]] = {
        "norm": (norm, [(channels,), (channels,)]),
        "proj_in": (proj_in, [(inner, channels), of_inner]),
        **{
            f"attentions {i}": (weights, [of_inner, of_inner, *4 * [square], of_inner])
            for i, weights in enumerate(attentions, 1)
        },
        "feed_forward": (
            feed_forward,
            [of_inner, of_inner, (2 * hidden, inner), (2 * hidden,), (inner, hidden), of_inner],
        ),
        "proj_out": (proj_out, [(channels, inner), (channels,)]),
    }
    weights: dict[str, Tensor] = {}
    for name, (tensors, wanted) in shapes.items():
        if len(tensors) != len(wanted):
            raise ValueError(f"{op}: {name} must be {len(wanted)} tensors, got {len(tensors)}")
        for i, (tensor, shape) in enumerate(zip(tensors, wanted), 1):
            expect_shape(op, f"{name}, tensor {i}", tensor, shape)
            weights[f"{name}, tensor {i}"] = tensor
    expect_alike(op, x, weights)
    given = list(weights.values())
    if choose(op, x, backend, {"native": refusal((x, *given))}) == "native":
        from .native import forward
    else:
        from .reference import forward
    return forward(x, num_groups, given, num_heads, norm_eps, eps)
