"""The schedulers that have a name; `denoise` takes any other of diffusers too."""

from typing import Any

from unianimate.blocks import NoiseScheduler

SCHEDULERS = ("ddim", "dpm++")


def make_scheduler(name: str, timestep_shift: float = 1.0) -> Any:
    """Return a scheduler for the official noise levels.

    Args:
        name: "ddim", the official one (Song et al., arXiv 2010.02502), or "dpm++", DPM-Solver++ 2M
            (Lu et al., arXiv 2211.01095), which is of second order and needs half the steps.
        timestep_shift: of "ddim", see `NoiseScheduler`; a model's is in its configuration. "dpm++"
            spaces its steps by the signal-to-noise ratio.

    Raises:
        ValueError: another name.
    """
    if name == "ddim":
        return NoiseScheduler(timestep_shift=timestep_shift)
    if name == "dpm++":
        from diffusers import DPMSolverMultistepScheduler

        return DPMSolverMultistepScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            # steps uniform in the log of the signal-to-noise ratio, as the paper takes them: with
            # steps uniform in time the error is that of DDIM at twice the steps, or larger
            use_lu_lambdas=True,
        )
    raise ValueError(f"the scheduler must be one of {', '.join(SCHEDULERS)}, got {name!r}")
