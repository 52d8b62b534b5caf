"""Training the video network: noised latents in, velocity out."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unianimate.blocks import NoiseScheduler
from unianimate.models import UniAnimate
from unianimate.models.unet3d import Conditions, ConditionTensors, Kept, draw_kept
from unianimate.training.batch import Batch, Posterior
from unianimate.training.config import DiffusionConfig, TrainConfig
from unianimate.training.draws import generator_of
from unianimate.training.lora import add_lora
from unianimate.training.parts import train_only
from unianimate.training.vae import encode_posterior, from_pictures

# what a generator draws, beside the run's seed and the number of a step or an example
_STEP, _EXAMPLE, _WHOLE = range(3)

# frames decoded at once, to be compared with pictures
_DECODED = 4


class DiffusionTask(nn.Module):
    """Mean squared error of the velocity, with every condition now and then left out.

    Steps of `scheduled_sampling` start from the network's own estimate, from which no velocity
    leads to the truth: theirs is the error of the clean latents.

    With clean latents x0, noise e (plus some that is constant over a frame) and a timestep t,
    x_t = sqrt(a_t) x0 + sqrt(1 - a_t) e goes in and v = sqrt(a_t) e - sqrt(1 - a_t) x0 is wanted
    (Salimans and Ho, arXiv 2202.00512). Some clips are told their first frame, so that one network
    serves both kinds of the unified noise input; poses, first frame and image tokens are dropped
    for classifier-free guidance. Timesteps are spread evenly over the clips of a step.

    Args:
        model: its parameters that `config.diffusion.train` names are trained in place, or get
            updates of a low rank that are; the others are frozen.
        config: of the run.

    Raises:
        ValueError: no parameter has a name to train, or no gradient would reach one that has.
    """

    def __init__(self, model: UniAnimate, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.scheduler = NoiseScheduler()
        options = config.diffusion
        if options.lora_rank:
            add_lora(model, options.train, options.lora_rank, options.lora_scale)
        else:
            train_only(model, options.train, "diffusion.train")
        _expect_reached(model, options)
        model.unet.gradient_checkpointing = config.gradient_checkpointing

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss and the errors in it, without weights.

        "error" is that of the velocity, "own_error" that of the clean latents of a step that
        starts from an own estimate, "pixel_error" that of decoded pictures.
        """
        options = self.config.diffusion
        draws = Draws(batch.numbers.tolist(), self.config)
        device = batch.pictures.frames.device
        latents, reference = self._latents(batch)
        noise = draws.noise(latents.shape, options.offset_noise).to(latents)
        total = self.scheduler.num_train_timesteps
        t = draws.timesteps(total, options.timestep_shift).to(device)

        conditions = self._conditions(batch, reference, draws).keeping(draws.kept(options))
        own = draws.chance(options.scheduled_sampling)
        start = self._estimate(noise, conditions.tensors) if own else latents
        sample = self.scheduler.add_noise(start, noise, t)
        prediction = self.model.unet(sample, t, conditions).float()
        clean = self.scheduler.get_clean(prediction, sample, t)
        if own:  # no velocity leads from an estimate to the truth
            error = _squares(clean - latents)
        else:
            error = _squares(prediction - self.scheduler.get_velocity(latents, noise, t))
        told = {"own_error" if own else "error": error.detach().mean()}
        loss = error
        if options.snr_gamma is not None and not own:
            loss = error * self._weight(t, options.snr_gamma)
        if options.pixel_weight:
            pixel_error = self._pixel_error(clean, batch)
            loss = loss + options.pixel_weight * pixel_error
            told["pixel_error"] = pixel_error.detach().mean()
        return {"loss": loss.mean(), **told}

    def _pixel_error(self, clean: Tensor, batch: Batch) -> Tensor:
        """Return (B,), how far decoded latents (B, C, F, h, w) are from the pictures."""
        decode = partial(self.model.vae.decode, chunk_size=_DECODED)
        if self.config.gradient_checkpointing:
            parts = torch.split(clean, _DECODED, dim=2)
            decoded = torch.cat([checkpoint(decode, x, use_reentrant=False) for x in parts], dim=2)
        else:
            decoded = decode(clean)
        return _squares(decoded - from_pictures(batch.pictures.frames).transpose(1, 2))

    @torch.no_grad()
    def _estimate(self, noise: Tensor, conditions: ConditionTensors) -> Tensor:
        """Return the clean latents (B, C, F, h, w) that the network sees in pure noise."""
        last = self.scheduler.num_train_timesteps - 1
        t = torch.full((len(noise),), last, device=noise.device)
        prediction = self.model.unet(noise, t, conditions).float()
        return self.scheduler.get_clean(prediction, noise, t)

    def _latents(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Draw latents of the frames (B, C, F, h, w) and of the reference (B, C, h, w)."""
        posterior = batch.latents
        if posterior is None:
            pictures = batch.pictures
            seen = torch.cat([pictures.frames, pictures.reference.unsqueeze(1)], dim=1)
            flat = encode_posterior(self.model.vae, seen.flatten(0, 1))
            posterior = Posterior(*(x.view(*seen.shape[:2], *x.shape[1:]) for x in flat))
        noise = [
            torch.randn(posterior.mean.shape[1:], generator=generator)
            for generator in _generators(batch.numbers.tolist(), self.config.seed, 1)
        ]
        drawn = posterior.mean + posterior.std * torch.stack(noise).to(posterior.mean)
        return drawn[:, :-1].transpose(1, 2), drawn[:, -1]

    def _conditions(self, batch: Batch, reference: Tensor, draws: "Draws") -> Conditions:
        unet, encoder = self.model.unet, self.model.image_encoder
        photos = encoder.preprocess(list(batch.pictures.reference.cpu().numpy())).to(
            reference.device
        )
        trained = any(p.requires_grad for p in encoder.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            image_embeds = encoder(photos)
        options = self.config.diffusion
        first_frame = _unit(batch.pictures.frames[:, 0])
        reference_pose = _unit(batch.pictures.reference_pose)
        return unet.encode_conditions(
            self.model.text_embeds,
            num_frames=batch.pictures.frames.shape[1],
            latent_size=(reference.shape[-2], reference.shape[-1]),
            image_embeds=image_embeds,
            pose=_unit(batch.pictures.poses).transpose(1, 2),
            reference_pose=reference_pose * options.reference_pose,
            reference_latents=reference,
            first_frame=draws.disturb(first_frame, options.first_frame_noise),
        )

    def _weight(self, t: Tensor, gamma: float) -> Tensor:
        """Return min(SNR, gamma) / (SNR + 1), the weight of a velocity's error."""
        alpha = self.scheduler.alphas_cumprod.to(t.device)[t].float()
        snr = alpha / (1 - alpha)
        return snr.clamp(max=gamma) / (snr + 1)


class Draws:
    """Everything random about the clips of a step that this process has.

    Args:
        numbers: of the examples, all of one step.
        config: of the run.
    """

    def __init__(self, numbers: Sequence[int], config: TrainConfig) -> None:
        self._numbers, self._config = numbers, config
        step = numbers[0] // config.batch_size
        self._step = generator_of(config.seed, _STEP, step)
        self._rows = [number - step * config.batch_size for number in numbers]
        self._examples = _generators(numbers, config.seed, 0)
        self._start = torch.rand((), generator=self._step)
        self._whole = generator_of(config.seed, _WHOLE, step)

    def timesteps(self, total: int, shift: float = 1.0) -> Tensor:
        """Return (B,) int64 in 0 .. total - 1, evenly spaced over the step's clips, shifted."""
        size = self._config.batch_size
        place = torch.randperm(size, generator=self._step)[self._rows]
        share = (place + self._start) / size
        share = shift * share / (1 + (shift - 1) * share)
        return (share * total).long().clamp(max=total - 1)

    def chance(self, probability: float) -> bool:
        """Return whether something that happens to all clips of a step or none does."""
        return bool(torch.rand((), generator=self._whole) < probability)

    def noise(self, shape: torch.Size, offset: float) -> Tensor:
        """Return noise (B, C, F, h, w), some of it constant over a frame and channel."""
        rows = []
        for generator in self._examples:
            noise = torch.randn(shape[1:], generator=generator)
            rows.append(noise + offset * torch.randn(*shape[1:3], 1, 1, generator=generator))
        return torch.stack(rows)

    def disturb(self, pictures: Tensor, strength: float) -> Tensor:
        """Add noise and a shift of colour, of a random strength, to pictures (B, 3, H, W)."""
        if strength == 0:
            return pictures
        rows = []
        for generator in self._examples:
            amount = strength * torch.rand((), generator=generator)
            shift = torch.randn(3, 1, 1, generator=generator)
            rows.append(amount * (torch.randn(pictures.shape[1:], generator=generator) + shift))
        return (pictures + torch.stack(rows).to(pictures)).clamp(0, 1)

    def kept(self, options: DiffusionConfig) -> Kept:
        """Draw which clips keep which conditions, and which are told their first frame."""
        size = self._config.batch_size
        kept = draw_kept(
            size,
            self._step,
            p=options.drop,
            p_all_zero=options.drop_all,
            p_all_keep=options.keep_all,
        )
        told = (torch.rand(size, generator=self._step) < options.first_frame).float()
        if options.drop_reference:
            some = torch.stack(kept[:3]).amax(dim=0)
            kept = kept._replace(reference=some)
        kept = kept._replace(first_frame=kept.first_frame * told)
        return Kept(*(mask[self._rows] for mask in kept))


def _expect_reached(model: UniAnimate, options: DiffusionConfig) -> None:
    """Expect a loss for every part of the autoencoder that is trained."""
    trained = [name for name, p in model.vae.model.named_parameters() if p.requires_grad]
    if any(name.startswith(("encoder.", "quant_conv.")) for name in trained):
        raise ValueError(
            "diffusion.train: what encodes is not trained beside the network, whose latents would "
            "change under it; name other parts, or take stage vae"
        )
    if trained and not options.pixel_weight:
        raise ValueError(
            "diffusion.train: the decoder learns from decoded pictures alone; set "
            "diffusion.pixel_weight, or leave it out"
        )


def _generators(numbers: Sequence[int], seed: int, purpose: int) -> list[torch.Generator]:
    return [generator_of(seed, _EXAMPLE, purpose, number) for number in numbers]


def _squares(difference: Tensor) -> Tensor:
    """Return the mean square of each item of (B, C, F, h, w)."""
    return difference.square().mean(dim=(1, 2, 3, 4))


def _unit(pictures: Tensor) -> Tensor:
    """Return uint8 (..., H, W, 3) as (..., 3, H, W) in [0, 1]."""
    return pictures.movedim(-1, -3).float() / 255
