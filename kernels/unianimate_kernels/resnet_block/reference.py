"""The block by `group_norm_silu` and `spatial_conv`: the specification."""

from torch import Tensor
from torch.nn.functional import conv2d, linear, silu

from ..group_norm_silu import group_norm_silu
from ..spatial_conv import spatial_conv


def of_frames(embedding: Tensor | None, emb_proj: list[Tensor], frames: int) -> Tensor | None:
    """Return what is added to each frame (N, D), or None."""
    if embedding is None:
        return None
    shift = linear(silu(embedding), *emb_proj)
    return shift.repeat_interleave(frames // shift.shape[0], 0, output_size=frames)


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
    h = spatial_conv(group_norm_silu(x, num_groups, scale1, shift1, eps), weight1, bias1)
    added = of_frames(embedding, emb_proj, x.shape[0])
    h = group_norm_silu(h, num_groups, scale2, shift2, eps, embedding=added)
    return (conv2d(x, skip[0], skip[1]) if skip else x) + spatial_conv(h, weight2, bias2)
