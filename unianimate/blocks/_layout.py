"""The views of a video that blocks work on. With channels last in memory none of them copies."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate


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
    views = [v.permute(0, 2, 3, 4, 1) for v in videos]
    if not all(view.is_contiguous() for view in views):
        return torch.cat(views, dim=-1).permute(0, 4, 1, 2, 3)
    # of more than four axes a GPU copies number by number
    rows = torch.cat([view.flatten(0, 3) for view in views], dim=-1)
    return rows.unflatten(0, views[0].shape[:4]).permute(0, 4, 1, 2, 3)


def concatenate_frames(*videos: Tensor) -> Tensor:
    """Concatenate videos (B, C, F_i, H, W) along the frames; the result is channels-last."""
    return torch.cat([v.permute(0, 2, 3, 4, 1) for v in videos], dim=1).permute(0, 4, 1, 2, 3)


def double(x: Tensor) -> Tensor:
    """Repeat the pixels of pictures (N, C, H, W) down and across; the result is channels-last."""
    if x.device.type == "cpu":
        return interpolate(x, scale_factor=2.0, mode="nearest")
    return double_by_copy(x)


def double_by_copy(x: Tensor) -> Tensor:
    """Do the same by one copy, of which a GPU's kernel for it takes several times the time."""
    pixels = x.permute(0, 2, 3, 1)[:, :, None, :, None]
    n, height, _, width, _, channels = pixels.shape
    rows = pixels.expand(n, height, 2, width, 2, channels).reshape(n, 2 * height, 2 * width, -1)
    return rows.permute(0, 3, 1, 2)


def per_frame(x: Tensor, frames: int) -> Tensor:
    """Repeat each row of (B, C) for the frames of its item: (B*F, C)."""
    return torch.cat([row.expand(frames, -1) for row in x.split(1)])
