"""UnifiedNoise: the start noise of every sampling mode."""

import torch
from torch import Tensor

from unianimate.blocks.noise_scheduler import NoiseScheduler, draw_noise


class UnifiedNoise:
    """Make x_T from noise, from a reference that is noised until little is left, or from both.

    With z ~ N(0, 1) of shape (B, C, F, H, W), o ~ N(0, 1) of shape (B, C, F, 1, 1) and strength s:

    * noise prior, offset outside: q(reference, t, z) + s o (the official long videos, t = 939)
    * noise prior, offset inside: q(reference, t, z + s o) (the official short clips, t = 949)
    * no reference: z + s o

    q is the forward process of the scheduler to `prior_timestep`; it leaves a trace of the
    reference that keeps colours and background steady. ``offset_strength=0`` leaves the offset out.

    Args:
        scheduler: The schedule of the forward process.
        prior_timestep: t, how far the reference is noised.
        offset_strength: s, the share of noise that is constant over a frame and channel.
        offset_inside: Add the offset to the noise, not to the noised reference.
    """

    def __init__(
        self,
        scheduler: NoiseScheduler,
        *,
        prior_timestep: int = 939,
        offset_strength: float = 0.1,
        offset_inside: bool = False,
    ) -> None:
        if not 0 <= prior_timestep < scheduler.num_train_timesteps:
            raise ValueError(
                f"UnifiedNoise: prior_timestep must be 0 to {scheduler.num_train_timesteps - 1}, "
                f"got {prior_timestep}"
            )
        self.scheduler = scheduler
        self.prior_timestep = prior_timestep
        self.offset_strength = offset_strength
        self.offset_inside = offset_inside

    def __call__(
        self,
        shape: tuple[int, int, int, int, int],
        *,
        reference_latents: Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> Tensor:
        """Return x_T of `shape` (B, C, F, H, W), float32 and channels-last.

        Args:
            shape: The latents to make.
            reference_latents: (B, C, H, W), the same for all frames, or (B, C, F, H, W).
            generator: Draws z, then o, on its own device.
            noise: z, in place of the draw.
            offset: o, in place of the draw.

        Raises:
            ValueError: If a tensor does not fit `shape`.
        """
        if len(shape) != 5:
            raise ValueError(f"UnifiedNoise: shape must be (B, C, F, H, W), got {tuple(shape)}")
        given = next((x for x in (reference_latents, noise, offset) if x is not None), None)
        source = generator if given is None else given
        device = torch.get_default_device() if source is None else source.device
        if noise is None:
            noise = draw_noise(shape, generator, device)
        if offset is None and self.offset_strength != 0:
            offset = draw_noise((*shape[:3], 1, 1), generator, device)
        noise = _fit("noise", noise, shape)
        shift: Tensor | float = 0.0
        if offset is not None:
            shift = self.offset_strength * _fit("offset", offset, (*shape[:3], 1, 1))

        if reference_latents is None:
            result = noise + shift
        else:
            reference = _repeat_frames(reference_latents, shape)
            inside, outside = (shift, 0.0) if self.offset_inside else (0.0, shift)
            noised = self.scheduler.add_noise(reference, noise + inside, self.prior_timestep)
            result = noised + outside
        return result.contiguous(memory_format=torch.channels_last_3d)

    def __repr__(self) -> str:
        return (
            f"UnifiedNoise(prior_timestep={self.prior_timestep}, "
            f"offset_strength={self.offset_strength}, offset_inside={self.offset_inside})"
        )


def _repeat_frames(reference: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return reference latents as a float32 tensor of `shape`, without copying the frames."""
    video = reference.unsqueeze(2) if reference.ndim == 4 else reference
    fits = video.ndim == 5 and all(
        n == want or (i == 2 and n == 1)
        for i, (n, want) in enumerate(zip(video.shape, shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"UnifiedNoise: reference_latents must be {(*shape[:2], *shape[3:])} or {shape}, "
            f"got {tuple(reference.shape)}"
        )
    return video.float().expand(shape)


def _fit(name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"UnifiedNoise: {name} must be {shape}, got {tuple(tensor.shape)}")
    return tensor.float()
