"""The block on a GPU: convolutions whose biases what follows adds. For inference.

cuDNN's result would be read and written once more to add a bias.
"""

from torch import Tensor

from .._descriptors import takes_tiles
from .._rows import add_rows
from ..group_norm_silu import group_norm_silu
from ..temporal_conv import temporal_conv
from .shifted import shifted_product


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
    h, shift = x, None
    stages = zip(norm_weights, norm_biases, weights, biases, strict=True)
    for norm_weight, norm_bias, weight, bias in stages:
        h = group_norm_silu(h, num_groups, norm_weight, norm_bias, eps, embedding=shift)
        h = _convolve(h, weight)
        shift = bias.expand(x.shape[0], -1)
    x, h = (t.permute(0, 2, 3, 4, 1).contiguous() for t in (x, h))
    return add_rows(x, h, biases[-1]).permute(0, 4, 1, 2, 3)


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    if takes_tiles(x, x.shape[1], weight.shape[0]):
        return shifted_product(x, weight)
    return temporal_conv(x, weight, None)
