"""VAE: pictures to latents and back, video in pieces of a few frames or as a stream."""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unianimate.blocks.noise_scheduler import draw_noise
from unianimate.blocks.norm import GroupNorm
from unianimate.models.checkpoints.files import load_weights, read_config, write_safetensors
from unianimate.models.configs import packaged_config

_WEIGHTS = "diffusion_pytorch_model.safetensors"


class VAE(nn.Module):
    """A thin wrapper over diffusers' `AutoencoderKL` that speaks video.

    Pictures are RGB in [-1, 1]. Latents are already multiplied by the scaling factor (0.18215 for
    the official VAE), as the network sees them. Each frame stands for itself, so results do not
    depend on the size of the pieces. The wrapper computes in the dtype of its weights and answers
    in the dtype it was given. Gradients flow; put ``torch.no_grad()`` around it to save memory.

    An `AutoencoderKL` of 3 p p channels sees pictures folded p x p, every square of pixels as one
    location (space to depth); small models are cheaper so.

    Args:
        config: The configuration of an `AutoencoderKL`; None is the official one.

    Raises:
        ValueError: If it asks for another activation than SiLU, or for a shift of latents.

    Attributes:
        model: The `AutoencoderKL` itself.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        from diffusers import AutoencoderKL

        super().__init__()
        self.config = dict(packaged_config("vae") if config is None else config)
        for name, wanted in {"act_fn": ("silu", "swish"), "shift_factor": (None, 0)}.items():
            if self.config.get(name, wanted[0]) not in wanted:
                raise ValueError(
                    f"VAE: {name} must be {' or '.join(map(str, wanted))}, "
                    f"got {self.config[name]!r}: this VAE computes nothing else"
                )
        self.model = AutoencoderKL.from_config(self.config)
        _fuse_norms(self.model)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, dtype: torch.dtype | None = None) -> "VAE":
        """Read a folder as diffusers writes it: ``config.json`` and the weights.

        Raises:
            FileNotFoundError: If the folder has no ``config.json``.
            CheckpointError: If the weights are missing or do not fit the configuration.
        """
        folder = Path(folder)
        with torch.device("meta"):
            vae = cls(read_config(folder / "config.json"))
        load_weights(vae.model, folder / _WEIGHTS, dtype)
        return vae.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained` and diffusers read."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        write_safetensors(folder / _WEIGHTS, self.model.state_dict())

    @property
    def scaling_factor(self) -> float:
        """What latents are multiplied by after encoding."""
        return float(self.model.config.scaling_factor)

    @property
    def downscale(self) -> int:
        """Pixels a latent location is wide and high, 8 for the official VAE."""
        return int(self._fold * 2 ** (len(self.model.config.block_out_channels) - 1))

    @property
    def _fold(self) -> int:
        return math.isqrt(self.model.config.in_channels // 3)

    def posterior(self, pictures: Tensor) -> Any:
        """Return diffusers' `DiagonalGaussianDistribution` of the unscaled latents of a batch.

        Args:
            pictures: (N, 3, H, W), RGB in [-1, 1], checked by nobody; `encode` does.
        """
        x = F.pixel_unshuffle(pictures.to(self.model.dtype), self._fold)
        return self.model.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist

    def encode(
        self,
        pictures: Tensor,
        *,
        generator: torch.Generator | None = None,
        mean: bool = False,
        chunk_size: int = 2,
    ) -> Tensor:
        """Encode pictures (B, 3, H, W) or video (B, 3, F, H, W) to latents of an eighth the size.

        Args:
            pictures: RGB in [-1, 1]; height and width are multiples of `downscale`.
            generator: Draws the sample of the posterior, frame after frame.
            mean: Take the mean of the posterior and draw nothing.
            chunk_size: Frames encoded at once.

        Raises:
            ValueError: If the shape does not fit.
        """
        h, w = pictures.shape[-2:]
        if pictures.ndim not in (4, 5) or pictures.shape[1] != 3:
            raise ValueError(
                "VAE.encode: pictures must be (B, 3, H, W) or (B, 3, F, H, W), "
                f"got {tuple(pictures.shape)}"
            )
        if h % self.downscale or w % self.downscale:
            raise ValueError(
                f"VAE.encode: height and width must be multiples of {self.downscale}, got {h}x{w}"
            )
        return self._by_chunks(
            pictures, chunk_size, lambda frames: self._encode(frames, generator, mean)
        )

    def decode(self, latents: Tensor, *, chunk_size: int = 2) -> Tensor:
        """Decode latents (B, C, h, w) or (B, C, F, h, w) to pictures, about in [-1, 1].

        Args:
            latents: Scaled latents, as `encode` returns them.
            chunk_size: Frames decoded at once.

        Raises:
            ValueError: If the shape does not fit.
        """
        channels = int(self.model.config.latent_channels)
        if latents.ndim not in (4, 5) or latents.shape[1] != channels:
            raise ValueError(
                f"VAE.decode: latents must be (B, {channels}, h, w) or (B, {channels}, F, h, w), "
                f"got {tuple(latents.shape)}"
            )
        return self._by_chunks(latents, chunk_size, self._decode)

    def encode_stream(
        self,
        frames: Iterable[Tensor],
        *,
        generator: torch.Generator | None = None,
        mean: bool = False,
        chunk_size: int = 2,
    ) -> Iterator[Tensor]:
        """Encode frames (3, H, W) as they come and yield their latents (C, h, w)."""
        for chunk in _chunks(frames, chunk_size):
            yield from self.encode(chunk, generator=generator, mean=mean, chunk_size=chunk_size)

    def decode_stream(self, latents: Iterable[Tensor], *, chunk_size: int = 2) -> Iterator[Tensor]:
        """Decode latents (C, h, w) as they come and yield pictures (3, H, W), about in [-1, 1]."""
        for chunk in _chunks(latents, chunk_size):
            yield from self.decode(chunk, chunk_size=chunk_size)

    def _encode(self, frames: Tensor, generator: torch.Generator | None, mean: bool) -> Tensor:
        posterior = self.posterior(frames)
        latents = posterior.mean
        if not mean:
            # one draw a frame: a draw for many would depend on how many there are
            shape = (1, *latents.shape[1:])
            noise = [draw_noise(shape, generator, latents.device) for _ in latents]
            latents = latents + posterior.std * torch.cat(noise).to(latents.dtype)
        return (latents * self.scaling_factor).to(frames.dtype)

    def _decode(self, latents: Tensor) -> Tensor:
        scaled = latents.to(self.model.dtype) / self.scaling_factor
        return F.pixel_shuffle(self.model.decode(scaled).sample, self._fold).to(latents.dtype)

    @staticmethod
    def _by_chunks(x: Tensor, size: int, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply a function of frames (N, C, H, W) to (B, C, H, W) or (B, C, F, H, W)."""
        if size < 1:
            raise ValueError(f"VAE: chunk_size must be 1 or more, got {size}")
        frames = x if x.ndim == 4 else x.transpose(1, 2).flatten(0, 1)
        whole = torch.cat(
            [
                function(part.contiguous(memory_format=torch.channels_last))
                for part in frames.split(size)
            ]
        ).contiguous(memory_format=torch.channels_last)
        return whole if x.ndim == 4 else whole.unflatten(0, (x.shape[0], -1)).transpose(1, 2)


def _fuse_norms(model: Any) -> None:
    """Let every group norm be one pass with the SiLU behind it; names of weights stay."""
    for module in model.modules():
        if hasattr(module, "nonlinearity") and hasattr(module, "norm2"):
            module.norm1, module.norm2 = _fused(module.norm1), _fused(module.norm2)
            module.nonlinearity = nn.Identity()
        if hasattr(module, "conv_norm_out"):
            module.conv_norm_out = _fused(module.conv_norm_out)
            module.conv_act = nn.Identity()


def _fused(norm: nn.GroupNorm) -> GroupNorm:
    return GroupNorm(norm.num_channels, num_groups=norm.num_groups, eps=norm.eps)


def _chunks(frames: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield frames (C, H, W) stacked to at most `size` of them."""
    iterator = iter(frames)
    while chunk := list(itertools.islice(iterator, size)):
        yield torch.stack(chunk)
