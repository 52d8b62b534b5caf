"""Models that are named on the command line, and what one call of their network costs."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from unianimate.models import UniAnimate
from unianimate.pipelines import AnimatePipeline
from unianimate.profiling import peak_bytes, time_call
from unianimate.training.cases import Case, puppet_cases
from unianimate.training.puppet_test import PuppetTest

# spent on timing a network
_SECONDS = 8.0
# puppets, below which an interval is told to be too narrow
_FEW = 8


class Named(NamedTuple):
    """A model folder and what tables call it."""

    label: str
    folder: str

    @classmethod
    def of(cls, text: str) -> "Named":
        """Read ``FOLDER`` or ``LABEL=FOLDER``; a run's ``model`` folder is called as the run."""
        label, equals, folder = text.partition("=")
        if equals:
            return cls(label, folder)
        path = Path(text)
        return cls(path.resolve().parent.name if path.name == "model" else path.name, text)

    def pipeline(self, kind: type[UniAnimate] = UniAnimate, scheduler: Any = None):
        """Read the model."""
        return AnimatePipeline(kind.from_pretrained(self.folder), scheduler)


def held_out(
    pipeline: AnimatePipeline, count: int, num_frames: int | None = None, **options: Any
) -> list[Case]:
    """Return held-out puppets at a model's size; the options are those of `puppet_cases`."""
    config = pipeline.model.config
    frames = num_frames or config.num_frames
    return puppet_cases(PuppetTest(count, frames, config.width, config.height), **options)


def about(pipeline: AnimatePipeline, cases: list[Case], *, steps: bool = True) -> str:
    """Say what is animated, and in how many steps unless these differ from row to row."""
    config = pipeline.model.config
    said = f", {config.steps} steps" if steps else ""
    few = ", which cover less of so few: 75 % of three, 82 % of four" if len(cases) < _FEW else ""
    return (
        f"{len(cases)} held-out puppets, {config.width} x {config.height} pixels, "
        f"{len(cases[0].truth)} frames{said}, {str(pipeline.model.dtype).removeprefix('torch.')}. "
        f"Means over the puppets, with 95 % bootstrap intervals over them{few}."
    )


@torch.no_grad()
def network_cost(model: UniAnimate) -> dict[str, float]:
    """Return parameters, milliseconds of one call for one video, and MiB it holds at once."""
    config, device = model.config, model.device
    latents = torch.zeros(1, config.unet.in_channels, 1, config.height // 8, config.width // 8)
    size, frames = latents.shape[-2:], config.num_frames
    tokens = 1 if config.unet.image_tokens == "projected" else config.unet.num_tokens
    picture = torch.rand(1, 3, config.height, config.width, device=device)
    conditions = model.unet.encode_conditions(
        model.text_embeds,
        num_frames=frames,
        latent_size=(size[0], size[1]),
        image_embeds=torch.randn(1, tokens, config.unet.context_dim, device=device),
        pose=picture.unsqueeze(2).expand(-1, -1, frames, -1, -1),
        reference_pose=picture,
        reference_latents=latents[:, :, 0].to(device),
    )
    sample = torch.randn(1, latents.shape[1], frames, *size, device=device)
    timestep = torch.tensor([500], device=device)

    def call() -> None:
        model.unet(sample, timestep, conditions)

    peak = peak_bytes(call, device)
    timing = time_call(call, device, budget=_SECONDS, warm=True)
    return {
        "parameters": sum(p.numel() for p in model.unet.parameters()),
        "milliseconds": 1000 * timing.median,
        "milliseconds_low": 1000 * timing.low,
        "milliseconds_high": 1000 * timing.high,
        "peak_mib": peak / 2**20,
    }
