"""Training an autoencoder, and giving its latents unit variance."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unianimate.models import VAE
from unianimate.training.batch import Batch, Posterior
from unianimate.training.config import VAEConfig
from unianimate.training.draws import generator_of
from unianimate.training.parts import train_only


class VAETask(nn.Module):
    """Squared error of the pictures, and a little of the divergence from N(0, 1).

    Every frame of the batch is a picture to learn from.

    Args:
        vae: its parameters that `config.train` names are trained in place.
        config: weights of the loss.
        seed: of the draws.

    Raises:
        ValueError: no parameter has a name to train.
    """

    def __init__(self, vae: VAE, config: VAEConfig, seed: int) -> None:
        super().__init__()
        self.vae, self.config, self.seed = vae, config, seed
        train_only(vae.model, config.train, "vae.train")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss and its parts."""
        x = from_pictures(batch.pictures.frames.flatten(0, 1))
        distribution = self.vae.posterior(x)
        noise = self._noise(batch, distribution.mean.shape)
        latents = distribution.mean + (distribution.std + self.config.latent_noise) * noise
        y = self.vae.decode(latents * self.vae.scaling_factor, chunk_size=len(latents))
        error = F.mse_loss(y.float(), x)
        divergence = distribution.kl().sum() / distribution.mean.numel()
        return {
            "loss": error + self.config.kl_weight * divergence,
            "psnr": 10 * torch.log10(4 / error.detach()),
            "divergence": divergence.detach(),
        }

    def _noise(self, batch: Batch, shape: torch.Size) -> Tensor:
        frames = batch.pictures.frames.shape[1]
        rows = [
            torch.randn(frames, *shape[1:], generator=generator_of(self.seed, int(number)))
            for number in batch.numbers
        ]
        return torch.cat(rows).to(batch.pictures.frames.device)


def from_pictures(pictures: Tensor) -> Tensor:
    """Return uint8 (..., H, W, 3) as (..., 3, H, W) in [-1, 1]."""
    return pictures.movedim(-1, -3).float() / 127.5 - 1


@torch.no_grad()
def encode_posterior(vae: VAE, pictures: Tensor, *, chunk_size: int = 16) -> Posterior:
    """Encode uint8 pictures (N, H, W, 3) to the scaled posterior, each (N, C, h, w)."""
    means, stds = [], []
    for part in torch.split(pictures, chunk_size):
        distribution = vae.posterior(from_pictures(part))
        means.append(distribution.mean.float() * vae.scaling_factor)
        stds.append(distribution.std.float() * vae.scaling_factor)
    return Posterior(torch.cat(means), torch.cat(stds))


def encode_all(vae: VAE, pictures: Iterable[np.ndarray]) -> Iterator[Tensor]:
    """Yield the moments (N, 2 C, h, w) that a `VideoCache` keeps, for batches of pictures."""
    for part in pictures:
        # a copy: torch wants memory it may write to, and the cache is mapped for reading
        tensor = torch.from_numpy(np.array(part)).to(vae.model.device)
        yield torch.cat(encode_posterior(vae, tensor), dim=1)


@torch.no_grad()
def whiten(vae: VAE, pictures: Tensor) -> None:
    """Give every latent channel mean 0 and variance 1 on these pictures; what is decoded stays.

    The affine map is put into the last layer of the encoder and the first of the decoder.

    Args:
        vae: changed in place; has both 1x1 convolutions around its latents.
        pictures: uint8 (N, H, W, 3).
    """
    model: Any = vae.model
    mean = (encode_posterior(vae, pictures).mean / vae.scaling_factor).movedim(1, 0).flatten(1)
    shift, scale = mean.mean(1), mean.std(1)
    channels = len(shift)
    out, back = model.quant_conv, model.post_quant_conv
    # latents' = (latents - shift) / scale; the second half of the moments is a log variance
    out.weight[:channels] /= scale.view(-1, 1, 1, 1)
    out.bias[:channels] = (out.bias[:channels] - shift) / scale
    out.bias[channels:] -= 2 * scale.log()
    back.bias += (back.weight[:, :, 0, 0] * shift).sum(1)
    back.weight *= scale.view(1, -1, 1, 1)
