"""The block on a GPU: torch's convolutions, whose biases what follows adds. For inference.

cuDNN's result would be read and written once more to add a bias.
"""

from torch import Tensor
from torch.nn.functional import conv2d

from .._rows import add_rows
from ..group_norm_silu import group_norm_silu
from .reference import of_frames


def forward(
    x: Tensor,
    embedding: Tensor | None,
    num_groups: int,
    norm1: list[Tensor],
    conv1: list[Tensor],
    emb_proj: list[Tensor],
    norm2: list[Tensor],
    conv2: list[Tensor],
    skip: list[Tensor],
    eps: float,
) -> Tensor:
    """Return (N, D, H, W)."""
    (scale1, shift1), (scale2, shift2) = norm1, norm2
    (weight1, bias1), (weight2, bias2) = conv1, conv2
    h = conv2d(group_norm_silu(x, num_groups, scale1, shift1, eps), weight1, padding=1)
    added = of_frames(embedding, emb_proj, x.shape[0])
    added = bias1.expand(x.shape[0], -1) if added is None else added + bias1
    h = group_norm_silu(h, num_groups, scale2, shift2, eps, embedding=added)
    h = conv2d(h, weight2, padding=1)
    if skip:
        x, bias2 = conv2d(x, skip[0]), bias2 + skip[1]
    x, h = (t.permute(0, 2, 3, 1).contiguous() for t in (x, h))
    return add_rows(x, h, bias2).permute(0, 3, 1, 2)
