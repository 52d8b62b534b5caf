"""The denoising loop: windows, guidance, one scheduler step after the other."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .distributed import ALONE, Processes

Windows = Sequence[Sequence[int]]
Callback = Callable[[int, Tensor, Tensor], None]


class Predict(Protocol):
    """Calls the network on a window."""

    def __call__(
        self, latents: Tensor, timestep: Tensor, frames: tuple[int, ...], /
    ) -> tuple[Tensor, Tensor | None]:
        """Return the conditional and, for guidance, the unconditional prediction.

        Args:
            latents: (B, C, F of the window, H, W).
            timestep: without axes, in the dtype of the scheduler's.
            frames: the window's indices into the whole video.
        """
        ...


def denoise(
    predict: Predict,
    latents: Tensor,
    scheduler: Any,
    *,
    guidance_scale: float = 2.5,
    windows: Windows | None = None,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    processes: Processes = ALONE,
    first_step: int = 0,
) -> Tensor:
    """Denoise latents over all timesteps of a scheduler.

    At each step every window is predicted and guided by ``u + guidance_scale * (c - u)`` (Ho and
    Salimans, arXiv 2207.12598), predictions that overlap are averaged uniformly in the order of the
    windows, and the scheduler takes its step on the whole video.

    Args:
        predict: the network on a window; an unconditional prediction of None means no guidance.
        latents: (B, C, F, H, W) start noise.
        scheduler: a `NoiseScheduler` or a diffusers scheduler whose ``set_timesteps`` was called.
        guidance_scale: 1.0 is the conditional prediction itself.
        windows: frame indices of each window; None is one window of all frames.
        eta: stochasticity of DDIM, for schedulers that have it.
        generator: draws the noise of ``eta > 0``.
        callback: called after each step with its number, the timestep and the latents.
        processes: share the windows; each calls with the same arguments and gets the same result.
        first_step: steps that are done already; ``latents`` are those after them.

    Returns:
        (B, C, F, H, W) clean latents, float32.

    Raises:
        ValueError: windows that leave a frame out, or ``eta`` for a scheduler without it.
    """
    frames = latents.shape[2]
    plan = [tuple(range(frames))] if windows is None else [tuple(w) for w in windows]
    visits = torch.zeros(frames, dtype=latents.dtype)
    for window in plan:
        # a window may hold a frame twice
        visits.index_add_(0, torch.tensor(window), visits.new_ones(len(window)))
    if not bool((visits > 0).all()):
        left_out = torch.nonzero(visits == 0).flatten().tolist()
        raise ValueError(f"denoise: no window has the frames {left_out}")
    visits = visits.to(latents.device).view(1, 1, -1, 1, 1)
    options = _step_options(scheduler, eta, generator)

    latents = processes.agree(latents)
    if first_step == 0:
        # schedulers in terms of the noise alone, as Euler's, start from larger numbers
        latents = latents * float(getattr(scheduler, "init_noise_sigma", 1.0))
    if hasattr(scheduler, "set_begin_index"):
        # else it looks for the first timestep, which may be there twice
        scheduler.set_begin_index(0)
    for number, timestep in enumerate(scheduler.timesteps):
        if number < first_step:
            continue
        sample = latents
        if hasattr(scheduler, "scale_model_input"):
            sample = scheduler.scale_model_input(latents, timestep)
        prediction = torch.zeros_like(latents)
        for window, part in zip(
            plan, _predict_windows(predict, sample, timestep, plan, guidance_scale, processes)
        ):
            prediction.index_add_(2, torch.tensor(window, device=latents.device), part)
        latents = scheduler.step(prediction / visits, timestep, latents, **options).prev_sample
        if callback is not None:
            callback(number, timestep, latents)
    return latents


def _predict_windows(
    predict: Predict,
    sample: Tensor,
    timestep: Tensor,
    plan: Sequence[tuple[int, ...]],
    guidance_scale: float,
    processes: Processes,
) -> Iterator[Tensor]:
    """Yield the guided prediction of each window, in order."""

    def guided(window: tuple[int, ...]) -> Tensor:
        whole = window == tuple(range(sample.shape[2]))
        part = sample if whole else sample[:, :, list(window)]
        c, u = predict(part, timestep, window)
        c = c.to(sample.dtype)
        return c if u is None else u + guidance_scale * (c - u)

    def empty(window: tuple[int, ...]) -> Tensor:
        return sample.new_empty((*sample.shape[:2], len(window), *sample.shape[3:]))

    return processes.share(plan, guided, empty)


def _step_options(scheduler: Any, eta: float, generator: torch.Generator | None) -> dict[str, Any]:
    """Return what this scheduler's ``step`` takes beside prediction, timestep and sample."""
    accepted = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {}
    if "eta" in accepted:
        options["eta"] = eta
    elif eta:
        raise ValueError(f"denoise: {type(scheduler).__name__} has no eta; leave it at 0")
    if "generator" in accepted:
        options["generator"] = generator
    return options
