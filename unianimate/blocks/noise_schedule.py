"""Noise schedules as pure float64 tables: betas, what follows from them, and sampling steps.

Everything is computed on the CPU in float64, so that a schedule is the same on every device.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

TimestepSpacing = Literal["official", "trailing"]


class NoiseTables(NamedTuple):
    """What diffusion needs to know at every timestep: float64 tensors of shape (T,).

    With zero terminal SNR ``alphas_cumprod`` ends in exactly 0, and the two ``sqrt_recip*`` tables
    end in inf.
    """

    betas: Tensor
    alphas_cumprod: Tensor
    alphas_cumprod_prev: Tensor
    sqrt_alphas_cumprod: Tensor
    sqrt_one_minus_alphas_cumprod: Tensor
    sqrt_recip_alphas_cumprod: Tensor
    sqrt_recipm1_alphas_cumprod: Tensor
    posterior_variance: Tensor
    posterior_log_variance_clipped: Tensor
    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor


def scaled_linear_betas(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    """Return betas whose square roots are equally spaced, the schedule of Stable Diffusion."""
    if num_timesteps < 2:
        raise ValueError(f"scaled_linear_betas: wanted num_timesteps >= 2, got {num_timesteps}")
    if not 0 < beta_start < beta_end < 1:
        raise ValueError(
            "scaled_linear_betas: wanted 0 < beta_start < beta_end < 1, "
            f"got beta_start={beta_start} and beta_end={beta_end}"
        )
    roots = (math.sqrt(beta_start), math.sqrt(beta_end))
    return torch.linspace(*roots, num_timesteps, dtype=torch.float64) ** 2


def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """Shift and scale sqrt(alphas_cumprod) so that the last timestep is pure noise.

    The first value is kept. Source: Lin et al., "Common Diffusion Noise Schedules and Sample Steps
    are Flawed", algorithm 1.

    Args:
        betas: (T,) float64, each in (0, 1).

    Returns:
        (T,) float64; the last one is exactly 1.
    """
    roots = (1 - betas).cumprod(0).sqrt()
    first, last = roots[0], roots[-1]
    alphas_cumprod = ((roots - last) * (first / (first - last))) ** 2
    alphas = torch.cat([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])
    return 1 - alphas


def noise_tables(betas: Tensor) -> NoiseTables:
    """Compute every table from the betas, (T,) float64.

    The posterior tables belong to q(x_{t-1} | x_t, x_0); its variance at t = 0 is 0 and the log is
    clipped at 1e-20.
    """
    alphas = 1 - betas
    cumprod = alphas.cumprod(0)
    previous = torch.cat([torch.ones(1, dtype=torch.float64), cumprod[:-1]])
    variance = betas * (1 - previous) / (1 - cumprod)
    return NoiseTables(
        betas=betas,
        alphas_cumprod=cumprod,
        alphas_cumprod_prev=previous,
        sqrt_alphas_cumprod=cumprod.sqrt(),
        sqrt_one_minus_alphas_cumprod=(1 - cumprod).sqrt(),
        sqrt_recip_alphas_cumprod=(1 / cumprod).sqrt(),
        sqrt_recipm1_alphas_cumprod=(1 / cumprod - 1).sqrt(),
        posterior_variance=variance,
        posterior_log_variance_clipped=variance.clamp(min=1e-20).log(),
        posterior_mean_coef1=betas * previous.sqrt() / (1 - cumprod),
        posterior_mean_coef2=(1 - previous) * alphas.sqrt() / (1 - cumprod),
    )


def sampling_timesteps(
    num_inference_steps: int,
    num_train_timesteps: int,
    spacing: TimestepSpacing,
    shift: float = 1.0,
) -> Tensor:
    """Return the timesteps at which a sampler calls the network, descending int64.

    "official" is 1 + {0, stride, 2 stride, ...} with stride = T // n, at most T - 1: for n = 30 of
    T = 1000 these are 31 steps, 991 to 1. "trailing" is n steps from T - 1, equally spaced.

    A shift s above 1 puts more of them where there is more noise: u = t / T becomes
    s u / (1 + (s - 1) u) (arXiv 2403.03206, equation 23); those that fall together are one.
    """
    total, n = num_train_timesteps, num_inference_steps
    if spacing == "trailing":
        steps = (torch.arange(n, 0, -1, dtype=torch.float64) * (total / n)).round().long() - 1
    else:
        steps = (1 + torch.arange(0, total, total // n)).clamp(max=total - 1).flip(0)
    if shift == 1:
        return steps
    share = steps.double() / total
    shifted = total * shift * share / (1 + (shift - 1) * share)
    return torch.unique_consecutive(shifted.round().long().clamp(max=total - 1))


def previous_timesteps(
    num_inference_steps: int,
    num_train_timesteps: int,
    spacing: TimestepSpacing,
    shift: float = 1.0,
) -> Tensor:
    """Return, for every timestep (T,), the one that a sampling step from it arrives at.

    "official" always goes back by T // n. "trailing" and shifted ones go to the next timestep in
    the list. None goes below 0: a sample ends at the noise of timestep 0, not perfectly clean.
    """
    every = torch.arange(num_train_timesteps)
    if spacing == "trailing" or shift != 1:
        steps = sampling_timesteps(num_inference_steps, num_train_timesteps, spacing, shift).flip(0)
        steps = torch.cat([torch.zeros(1, dtype=torch.int64), steps])
        return steps[torch.searchsorted(steps[1:], every)]
    return (every - num_train_timesteps // num_inference_steps).clamp(min=0)
