"""NoiseScheduler: the forward process, the training target and one DDIM step."""

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from unianimate.blocks.noise_schedule import (
    NoiseTables,
    TimestepSpacing,
    noise_tables,
    previous_timesteps,
    rescale_zero_terminal_snr,
    sampling_timesteps,
    scaled_linear_betas,
)

PredictionType = Literal["v_prediction", "epsilon", "sample"]


class StepOutput(NamedTuple):
    """One sampling step: the sample at the previous timestep and the clean sample it aims at."""

    prev_sample: Tensor
    pred_original_sample: Tensor


class NoiseScheduler:
    """A discrete diffusion schedule with the DDIM sampler, in any dtype and on any device.

    With a_t = ``alphas_cumprod[t]``, noise e and clean sample x_0:
    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e and velocity v = sqrt(a_t) e - sqrt(1 - a_t) x_0.
    Tables are float64 and are cast to the dtype of the tensor they multiply. Samples have the batch
    first; a timestep is an int or a tensor (B,).

    Example:
        >>> scheduler = NoiseScheduler()
        >>> scheduler.set_timesteps(30)
        >>> sample = torch.randn(1, 4, 16, 32, 32)
        >>> for t in scheduler.timesteps:
        ...     sample = scheduler.step(predict(sample, t), t, sample).prev_sample

    Args:
        num_train_timesteps: T, the length of the tables.
        beta_start: The first beta.
        beta_end: The last beta; the square roots between them are equally spaced.
        rescale_betas_zero_snr: Make the last timestep pure noise (a_{T-1} = 0).
        prediction_type: What the network predicts: the velocity, the noise or the clean sample.
        timestep_spacing: "official" mirrors UniAnimate (30 asks for 31 steps, from 991 to 1);
            "trailing" starts at T - 1 and has exactly the number asked for.
        timestep_shift: Above 1 puts more sampling steps where there is more noise, as
            `sampling_timesteps` says; 1 is none.

    Source: Song et al., "Denoising Diffusion Implicit Models", equation 12.
    """

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        rescale_betas_zero_snr: bool = True,
        prediction_type: PredictionType = "v_prediction",
        timestep_spacing: TimestepSpacing = "official",
        timestep_shift: float = 1.0,
    ) -> None:
        _one_of("prediction_type", prediction_type, get_args(PredictionType))
        _one_of("timestep_spacing", timestep_spacing, get_args(TimestepSpacing))
        if not 0 < timestep_shift < math.inf:
            raise ValueError(
                f"NoiseScheduler: timestep_shift must be positive, got {timestep_shift}"
            )
        betas = scaled_linear_betas(num_train_timesteps, beta_start, beta_end)
        self.tables: NoiseTables = noise_tables(
            rescale_zero_terminal_snr(betas) if rescale_betas_zero_snr else betas
        )
        self.num_train_timesteps = num_train_timesteps
        self.prediction_type = prediction_type
        self.timestep_spacing = timestep_spacing
        self.timestep_shift = timestep_shift
        self._timesteps: Tensor | None = None
        self._previous: Tensor | None = None

    @property
    def alphas_cumprod(self) -> Tensor:
        """The share of signal variance at every timestep, (T,) float64."""
        return self.tables.alphas_cumprod

    @property
    def timesteps(self) -> Tensor:
        """The timesteps to call the network at, int64 and descending.

        Raises:
            ValueError: If `set_timesteps` was not called.
        """
        if self._timesteps is None:
            raise ValueError("NoiseScheduler: no timesteps yet, call set_timesteps(n) first")
        return self._timesteps

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Choose the timesteps of a sampling run."""
        if not 1 <= num_inference_steps <= self.num_train_timesteps:
            raise ValueError(
                "NoiseScheduler.set_timesteps: num_inference_steps must be 1 to "
                f"{self.num_train_timesteps}, got {num_inference_steps}"
            )
        run = (num_inference_steps, self.num_train_timesteps, self.timestep_spacing)
        self._timesteps = sampling_timesteps(*run, self.timestep_shift)
        self._previous = previous_timesteps(*run, self.timestep_shift)

    def add_noise(self, x0: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """Return x_t, the clean sample `x0` (B, ...) noised to timestep `t`."""
        signal, sigma = self._signal_and_sigma(t, x0)
        return signal * x0 + sigma * noise

    def get_velocity(self, x0: Tensor, noise: Tensor, t: int | Tensor) -> Tensor:
        """Return v, what a network of prediction type "v_prediction" learns, shaped as `x0`."""
        signal, sigma = self._signal_and_sigma(t, x0)
        return signal * noise - sigma * x0

    def get_clean(self, output: Tensor, sample: Tensor, t: int | Tensor) -> Tensor:
        """Return the clean sample that a prediction for x_t = `sample` stands for, shaped as it.

        Raises:
            ValueError: a prediction of the noise in pure noise, which says nothing of x0.
        """
        signal, sigma = self._signal_and_sigma(t, sample)
        if self.prediction_type == "v_prediction":
            return signal * sample - sigma * output
        if self.prediction_type == "sample":
            return output
        if bool((signal == 0).any()):
            raise ValueError(
                f"NoiseScheduler: x_t at timestep {t} is pure noise, from which a prediction "
                "of the noise says nothing; use prediction_type 'v_prediction' or "
                "rescale_betas_zero_snr=False"
            )
        return (sample - sigma * output) / signal

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        *,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
        variance_noise: Tensor | None = None,
        clamp: float | None = None,
        percentile: float | None = None,
    ) -> StepOutput:
        """Go from x_t to the previous timestep of the run by DDIM.

        Args:
            model_output: The network's prediction at `timestep`, (B, ...).
            timestep: t, an int or (B,).
            sample: x_t, (B, ...); half precision is computed in float32 and cast back.
            eta: 0 is deterministic, 1 has the variance of the posterior.
            generator: Draws the noise of ``eta > 0``, on the generator's own device.
            variance_noise: That noise itself, shaped as `sample`, in place of a draw.
            clamp: Clip the predicted clean sample to [-clamp, clamp].
            percentile: Clip it to this quantile of its absolute values, at least 1, and divide by
                the quantile (dynamic thresholding); in (0, 1].

        Raises:
            ValueError: If `set_timesteps` was not called, options contradict each other, or the
                noise is predicted at a timestep that holds no signal.
        """
        if self._previous is None:
            raise ValueError("NoiseScheduler.step: call set_timesteps(n) first")
        if not 0 <= eta <= 1:
            raise ValueError(f"NoiseScheduler.step: eta must be 0 to 1, got {eta}")
        if clamp is not None and percentile is not None:
            raise ValueError("NoiseScheduler.step: give clamp or percentile, not both")
        if generator is not None and variance_noise is not None:
            raise ValueError("NoiseScheduler.step: give generator or variance_noise, not both")
        dtype = torch.promote_types(sample.dtype, torch.float32)
        x, output = sample.to(dtype), model_output.to(dtype)
        x0 = _clip(self.get_clean(output, x, timestep), clamp, percentile)
        # sqrt(a) v + sqrt(1 - a) x for a velocity that is not clipped, and finite where a = 0
        signal, sigma = self._signal_and_sigma(timestep, x)
        noise = (x - signal * x0) / sigma

        t = self._index(timestep).cpu()
        alpha, alpha_previous = self.alphas_cumprod[t], self.alphas_cumprod[self._previous[t]]
        spread = eta * ((1 - alpha_previous) / (1 - alpha) * (1 - alpha / alpha_previous)).sqrt()
        # eta = 1 at a = 0 leaves 0 here, or a rounding error below it
        direction = (1 - alpha_previous - spread**2).clamp(min=0).sqrt()
        result = _spread(alpha_previous.sqrt(), x) * x0 + _spread(direction, x) * noise
        if eta > 0:
            if variance_noise is None:
                variance_noise = draw_noise(x.shape, generator, x.device, dtype)
            result = result + _spread(spread * (t != 0), x) * variance_noise.to(x)
        return StepOutput(result.to(sample.dtype), x0.to(sample.dtype))

    def posterior(
        self, x0: Tensor, sample: Tensor, t: int | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean, variance and clipped log variance of q(x_{t-1} | x_t, x_0).

        The mean is shaped as `sample`; the two others are (B or 1, 1, ...) and broadcast to it.
        """
        tables = self.tables
        mean = (
            self._at(tables.posterior_mean_coef1, t, sample) * x0
            + self._at(tables.posterior_mean_coef2, t, sample) * sample
        )
        variance = self._at(tables.posterior_variance, t, sample)
        return mean, variance, self._at(tables.posterior_log_variance_clipped, t, sample)

    def _signal_and_sigma(self, t: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        return (
            self._at(self.tables.sqrt_alphas_cumprod, t, like),
            self._at(self.tables.sqrt_one_minus_alphas_cumprod, t, like),
        )

    def _at(self, table: Tensor, t: int | Tensor, like: Tensor) -> Tensor:
        """Return ``table[t]`` as (B or 1, 1, ...) in the dtype and on the device of `like`."""
        index = self._index(t)
        return _spread(table.to(index.device)[index], like)

    def _index(self, t: int | Tensor) -> Tensor:
        """Return timestep `t` as an int64 tensor (B or 1,), checked where that costs no sync."""
        index = torch.as_tensor(t, dtype=torch.int64).reshape(-1)
        if index.device.type == "cpu" and not bool(
            ((index >= 0) & (index < self.num_train_timesteps)).all()
        ):
            raise ValueError(
                f"NoiseScheduler: timesteps are 0 to {self.num_train_timesteps - 1}, got {t}"
            )
        return index

    def __repr__(self) -> str:
        return (
            f"NoiseScheduler(num_train_timesteps={self.num_train_timesteps}, "
            f"prediction_type={self.prediction_type!r}, "
            f"timestep_spacing={self.timestep_spacing!r}, "
            f"final_alpha_cumprod={self.alphas_cumprod[-1].item():.3g})"
        )


def draw_noise(
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw N(0, 1) on the generator's device and move it to `device`.

    A CPU generator therefore gives the same numbers whatever the model runs on.
    """
    source = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=source, dtype=dtype).to(device)


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """Return `values` (B,) as (B, 1, ...) in the dtype and on the device of `like`."""
    cast = values.to(like.dtype).to(like.device)
    return cast.reshape(-1, *[1] * (like.ndim - 1))


def _clip(x0: Tensor, clamp: float | None, percentile: float | None) -> Tensor:
    """Clip a clean sample (B, ...) to a constant, or to a quantile of each item."""
    if clamp is not None:
        return x0.clamp(-clamp, clamp)
    if percentile is None:
        return x0
    if not 0 < percentile <= 1:
        raise ValueError(f"NoiseScheduler.step: percentile must be in (0, 1], got {percentile}")
    bound = _spread(x0.abs().flatten(1).quantile(percentile, dim=1).clamp(min=1), x0)
    return x0.clamp(-bound, bound) / bound


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"NoiseScheduler: {name} must be one of {allowed}, got {value!r}")
