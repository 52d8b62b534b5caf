"""The views of a video that blocks work on. With channels last in memory none of them copies."""

import torch
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """Return a video (B, C, F, H, W) with channels last in memory: itself, or one copy.

    Raises:
        ValueError: `x` has not five axes.
    """
    if x.dim() != 5:
        raise ValueError(f"a video is (B, C, F, H, W), got shape {tuple(x.shape)}")
    return x.contiguous(memory_format=torch.channels_last_3d)


def to_frames(x: Tensor) -> Tensor:
    """View (B, C, F, H, W) as pictures (B*F, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def from_frames(x: Tensor, batch: int) -> Tensor:
    """View pictures (B*F, C, H, W) as a video (B, C, F, H, W)."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def to_locations(x: Tensor) -> Tensor:
    """View (B, C, F, H, W) as (B, F, H*W, C): at every location a sequence over the frames."""
    return x.permute(0, 2, 3, 4, 1).flatten(2, 3)


def from_locations(x: Tensor, height: int, width: int) -> Tensor:
    """View (B, F, H*W, C) as a video (B, C, F, H, W)."""
    return x.unflatten(2, (height, width)).permute(0, 4, 1, 2, 3)


def concatenate_channels(*videos: Tensor) -> Tensor:
    """Concatenate videos (B, C_i, F, H, W) along the channels; the result is channels-last.

    Written on the view with the channels last, where the result is channels-last even if an input
    is an expanded view.
    """
    return torch.cat([v.permute(0, 2, 3, 4, 1) for v in videos], dim=-1).permute(0, 4, 1, 2, 3)


def concatenate_frames(*videos: Tensor) -> Tensor:
    """Concatenate videos (B, C, F_i, H, W) along the frames; the result is channels-last."""
    return torch.cat([v.permute(0, 2, 3, 4, 1) for v in videos], dim=1).permute(0, 4, 1, 2, 3)


def per_frame(x: Tensor, frames: int) -> Tensor:
    """Repeat each row of (B, C) for the frames of its item: (B*F, C)."""
    return torch.cat([row.expand(frames, -1) for row in x.split(1)])
