"""ReferenceEncoder: the reference picture and its pose as one more frame of the video."""

import torch
from torch import Tensor, nn

from unianimate.blocks.pose_encoder import expect_pictures, picture_stem
from unianimate.blocks.temporal_adapter import TemporalAdapter


class ReferenceEncoder(nn.Module):
    """Encode the latents of the reference picture, and add its pose.

    ``latent_adapter(latent(latents)) + pose_adapter(pose(picture))``, which UniAnimate puts before
    the frames of the video as their first (arXiv 2406.01188, section 3.2).

    Args:
        dim: channels of the result.
        latent_channels: channels of the latents.
        dropout: of the adapters.
    """

    def __init__(self, dim: int, *, latent_channels: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim, self.latent_channels = dim, latent_channels
        self.latent = nn.Sequential(
            nn.Conv2d(latent_channels, 32, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, dim, 3, padding=1),
        )
        self.latent_adapter = TemporalAdapter(dim, dropout=dropout)
        self.pose = picture_stem(dim)
        self.pose_adapter = TemporalAdapter(dim, dropout=dropout)

    def forward(self, latents: Tensor, pose: Tensor | None = None) -> Tensor:
        """Return the reference as a video of one frame.

        Args:
            latents: (B, latent_channels, h, w), scaled as the network sees latents.
            pose: (B, 3, 8h, 8w), RGB in [0, 1], or None.

        Returns:
            (B, dim, 1, h, w).

        Raises:
            ValueError: a shape does not fit.
        """
        if latents.dim() != 4 or latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"ReferenceEncoder: latents must be (B, {self.latent_channels}, h, w), "
                f"got {tuple(latents.shape)}"
            )
        frame = self.latent_adapter(self.latent(_channels_last(latents)).unsqueeze(2))
        if pose is None:
            return frame
        expect_pictures("ReferenceEncoder", pose)
        return frame + self.pose_adapter(self.pose(_channels_last(pose)).unsqueeze(2))

    def extra_repr(self) -> str:
        """Tell the sizes."""
        return f"{self.dim}, latent_channels={self.latent_channels}"


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
