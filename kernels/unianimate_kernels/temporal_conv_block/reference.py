"""The block by `group_norm_silu` and `temporal_conv`: the specification."""

from torch import Tensor

from ..group_norm_silu import group_norm_silu
from ..temporal_conv import temporal_conv


def forward(
    x: Tensor,
    num_groups: int,
    norm_weights: list[Tensor],
    norm_biases: list[Tensor],
    weights: list[Tensor],
    biases: list[Tensor],
    eps: float,
) -> Tensor:
    """Return (B, C, F, H, W)."""
    h = x
    for scale, shift, weight, bias in zip(norm_weights, norm_biases, weights, biases, strict=True):
        h = temporal_conv(group_norm_silu(h, num_groups, scale, shift, eps), weight, bias)
    return x + h
