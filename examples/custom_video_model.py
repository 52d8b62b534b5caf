"""A pose-to-video model of your own, made of blocks, trained for a few steps.

Every block takes and returns a video (B, C, F, H, W) and owns its norm and residual, so a model is
a list of them. Run it: python examples/custom_video_model.py
"""

import torch
from torch import Tensor, nn

from unianimate.blocks import (
    NoiseScheduler,
    PoseEncoder,
    ResnetBlock,
    TemporalMamba,
    TimestepEmbedding,
)


class TinyPoseVideo(nn.Module):
    """Latents (B, 4, F, H, W) and pose frames (B, 3, F, 8H, 8W) -> a prediction of the velocity."""

    def __init__(self, dim: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.conv_in, self.conv_out = nn.Conv3d(4, dim, 1), nn.Conv3d(dim, 4, 1)
        self.time, self.pose = TimestepEmbedding(dim), PoseEncoder(dim)
        self.space = nn.ModuleList(ResnetBlock(dim, emb_dim=dim) for _ in range(depth))
        self.temporal = nn.ModuleList(TemporalMamba(dim) for _ in range(depth))

    def forward(self, latents: Tensor, timestep: Tensor, pose: Tensor) -> Tensor:
        """Predict what the scheduler calls the velocity."""
        x, emb = self.conv_in(latents) + self.pose(pose), self.time(timestep)
        for space, temporal in zip(self.space, self.temporal, strict=True):
            x = temporal(space(x, emb))
        return self.conv_out(x)


def train(steps: int = 20, seed: int = 0) -> list[float]:
    """Fit one random clip and return the losses."""
    torch.manual_seed(seed)
    model, scheduler = TinyPoseVideo(dim=32), NoiseScheduler()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    latents, pose = torch.randn(1, 4, 5, 8, 8), torch.rand(1, 3, 5, 64, 64)
    noise, timestep = torch.randn_like(latents), torch.tensor([500])
    noisy = scheduler.add_noise(latents, noise, timestep)
    target = scheduler.get_velocity(latents, noise, timestep)
    losses = []
    for _ in range(steps):
        loss = nn.functional.mse_loss(model(noisy, timestep, pose), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    losses = train()
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
