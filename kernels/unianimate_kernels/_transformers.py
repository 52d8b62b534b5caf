"""What both transformers are given: the weights of their layers."""

from collections.abc import Sequence

from torch import Tensor

from ._checks import (
    expect_alike,
    expect_list,
    expect_not_empty,
    expect_rank,
    expect_shape,
)
from ._parts import round_up

ATTENTIONS = 2
# more outputs than a panel of the library has
_PANEL = 32
# weights of the layers one after the other: their slices in the list that `checked` returns
LAYERS = tuple(
    slice(start, end) for start, end in ((0, 2), (2, 4), (4, 11), (11, 18), (18, 24), (24, 26))
)


def checked(
    op: str,
    x: Tensor,
    num_groups: int,
    norm: Sequence[Tensor],
    proj_in: Sequence[Tensor],
    attentions: Sequence[Sequence[Tensor]],
    feed_forward: Sequence[Tensor],
    proj_out: Sequence[Tensor],
    num_heads: int,
    context: Tensor | None = None,
) -> list[Tensor]:
    """Return all weights in one list, in the order of the arguments.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes, devices, num_groups or num_heads that do not fit, an empty axis.
    """
    expect_rank(op, "x", x, "(B, C, F, H, W)")
    expect_not_empty(op, "x", x)
    channels = x.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"{op}: num_groups must divide the {channels} channels, got {num_groups}")
    if len(attentions) != ATTENTIONS:
        raise ValueError(f"{op}: attentions must be {ATTENTIONS} lists, got {len(attentions)}")
    if len(proj_in) != 2 or len(feed_forward) != 6:
        raise ValueError(
            f"{op}: proj_in must be 2 tensors and feed_forward 6, "
            f"got {len(proj_in)} and {len(feed_forward)}"
        )
    inner, hidden = proj_in[0].shape[0], feed_forward[4].shape[-1]
    if num_heads < 1 or inner < 1 or inner % num_heads:
        raise ValueError(f"{op}: num_heads must divide the {inner} inner channels, got {num_heads}")
    source = inner
    if context is not None:
        expect_rank(op, "context", context, "(B, M, D)")
        expect_not_empty(op, "context", context)
        expect_alike(op, x, {"context": context})
        source = context.shape[2]
        expect_shape(op, "context", context, (x.shape[0], context.shape[1], source))
    of_inner, square, to_source = (inner,), (inner, inner), (inner, source)
    projections = [square, square, square], [square, to_source, to_source]
    shapes: dict[str, tuple[Sequence[Tensor], list[tuple[int, ...]]]] = {
        "norm": (norm, [(channels,), (channels,)]),
        "proj_in": (proj_in, [(inner, channels), of_inner]),
        **{
            f"attentions {i}": (given, [of_inner, of_inner, *to_qkv, square, of_inner])
            for i, (given, to_qkv) in enumerate(zip(attentions, projections), 1)
        },
        "feed_forward": (
            feed_forward,
            [of_inner, of_inner, (2 * hidden, inner), (2 * hidden,), (inner, hidden), of_inner],
        ),
        "proj_out": (proj_out, [(channels, inner), (channels,)]),
    }
    expect_alike(op, x, {})
    weights: list[Tensor] = []
    for name, (tensors, wanted) in shapes.items():
        expect_list(op, x, name, tensors, wanted)
        weights += tensors
    return weights


def to_pack(weights: Sequence[Tensor]) -> tuple[list[Tensor], int]:
    """Return the matrices among the weights, and how many values they take when packed."""
    matrices = [weight for weight in weights if weight.dim() == 2]
    return matrices, sum(round_up(w.shape[0], 2 * _PANEL) * w.shape[1] for w in matrices)
