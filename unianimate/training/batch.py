"""What a training step reads: clips as tensors, with the number of each example."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unianimate.data.clips import Clip, ClipDataset, ClipRequest
from unianimate.training.cache import VideoCache


class Posterior(NamedTuple):
    """Latents as the autoencoder gives them, scaled: mean and standard deviation."""

    mean: Tensor
    std: Tensor


class Pictures(NamedTuple):
    """The pictures of B clips of F frames: uint8 RGB with channels last."""

    frames: Tensor  # (B, F, H, W, 3)
    poses: Tensor  # (B, F, H, W, 3)
    reference: Tensor  # (B, H, W, 3)
    reference_pose: Tensor  # (B, H, W, 3)


class Batch(NamedTuple):
    """B clips of F frames."""

    pictures: Pictures
    numbers: Tensor  # (B,) of the examples
    latents: Posterior | None  # (B, F + 1, C, h, w), the reference last; None: encode the frames

    def split(self, parts: int) -> list["Batch"]:
        """Return equal parts, to be run one after the other."""
        pictures = [Pictures(*part) for part in zip(*(x.chunk(parts) for x in self.pictures))]
        latents: list[Posterior | None] = [None] * parts
        if self.latents is not None:
            latents = [Posterior(*part) for part in zip(*(x.chunk(parts) for x in self.latents))]
        return [Batch(*part) for part in zip(pictures, self.numbers.chunk(parts), latents)]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; the numbers stay where they are."""
        pictures = Pictures(*(x.to(device, non_blocking=True) for x in self.pictures))
        latents = self.latents
        if latents is not None:
            latents = Posterior(*(x.to(device, non_blocking=True) for x in latents))
        return Batch(pictures, self.numbers, latents)


class TrainingClips:
    """Clips by request, with their latents where the cache has them.

    Args:
        clips: draws the clips.
    """

    def __init__(self, clips: ClipDataset) -> None:
        self.clips = clips

    def __getitem__(self, request: ClipRequest) -> tuple[ClipRequest, Clip, Posterior | None]:
        """Return one example with its number."""
        clip = self.clips[request]
        videos = self.clips.videos
        latents = None
        if isinstance(videos, VideoCache) and videos.has_latents:
            latents = Posterior(*videos.latents(clip.video, clip.numbers))
        return request, clip, latents


def collate(examples: Sequence[tuple[ClipRequest, Clip, Posterior | None]]) -> Batch:
    """Stack examples of one length."""
    requests, clips, latents = zip(*examples)
    pictures = Pictures(
        *(
            torch.from_numpy(np.stack([getattr(clip, name) for clip in clips]))
            for name in Pictures._fields
        )
    )
    numbers = torch.tensor([request.number for request in requests])
    stacked = None
    if all(latent is not None for latent in latents):
        stacked = Posterior(*(torch.stack(parts) for parts in zip(*latents)))
    return Batch(pictures, numbers, stacked)
