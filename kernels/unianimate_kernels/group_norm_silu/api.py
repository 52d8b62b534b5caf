"""`group_norm_silu`: group normalisation, an optional added embedding before, SiLU after."""

from typing import Literal

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_alike, expect_not_empty, expect_shape, expect_tensor
from .._dispatch import choose
from . import layout


@autocast("x", "weight", "bias", "embedding")
def group_norm_silu(
    x: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float = 1e-5,
    *,
    embedding: Tensor | None = None,
    activation: Literal["silu"] | None = "silu",
    backend: str | None = None,
) -> Tensor:
    """Normalise each group of channels, scale, shift and apply SiLU.

    ``silu(GroupNorm(x + embedding) * weight + bias)`` (Wu and He, arXiv 1803.08494). Statistics
    are taken per item of the first axis, so the view decides: ``(B*F, C, H, W)`` normalises each
    frame, ``(B, C, F, H, W)`` the whole clip.

    Args:
        x: (N, C, *), any memory format, which the result keeps; the fast form is channels-last.
        num_groups: groups of C / num_groups neighbouring channels.
        weight: (C,).
        bias: (C,); weight, bias and embedding have x's dtype.
        eps: added to the variance.
        embedding: (N, C) added to x before the statistics (the timestep embedding), or None.
        activation: "silu" or None.
        backend: a name binds the call to that backend; None takes the first that can serve it.

    Returns:
        A tensor of x's shape, dtype and memory format.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes, devices, num_groups or an activation that do not fit, an empty axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "group_norm_silu"
    if expect_tensor(op, "x", x).dim() < 2:
        raise ValueError(f"{op}: x must be (N, C, ...), got shape {tuple(x.shape)}")
    expect_not_empty(op, "x", x)
    given = {"weight": weight, "bias": bias, "embedding": embedding}
    expect_alike(op, x, given, optional=("embedding",))
    batch, channels = x.shape[:2]
    expect_shape(op, "weight", weight, (channels,))
    expect_shape(op, "bias", bias, (channels,))
    expect_shape(op, "embedding", embedding, (batch, channels))
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"{op}: num_groups must divide the {channels} channels, got {num_groups}")
    if activation not in ("silu", None):
        raise ValueError(f"{op}: activation must be 'silu' or None, got {activation!r}")
    not_rows = layout.refusal(x, planes=False)
    not_native = layout.refusal(x) if not_rows is not None and x.is_cpu else not_rows
    limits = {"native": not_native, "triton": not_rows}
    match choose(op, x, backend, limits):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case _:
            from .reference import forward
    return forward(x, num_groups, weight, bias, eps, embedding, activation)
