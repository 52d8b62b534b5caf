"""A video that processes make together, by a network that is one product."""

from pathlib import Path
from typing import Any

import torch

from unianimate.blocks import NoiseScheduler
from unianimate.pipelines import denoise, plan_windows
from unianimate.pipelines.distributed import Processes, torchrun_processes

FRAMES, SIZE, OVERLAP = 23, 8, 3


def make(processes: Processes, fail_at: int | None = None) -> dict[str, Any]:
    """Return the video, and the frames of every call of the network in this process."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 4, generator=generator) / 4
    # processes need not start alike: all take the first one's noise
    start = torch.randn(1, 4, FRAMES, 6, 5, generator=generator) + processes.rank
    scheduler = NoiseScheduler()
    scheduler.set_timesteps(6)
    seen = []

    def predict(latents, timestep, frames):
        if processes.rank == 1 and len(seen) == fail_at:
            raise RuntimeError("process 1 fails")
        seen.append(frames)
        mixed = torch.einsum("dc,bcfhw->bdfhw", mix, latents)
        return (mixed + mixed.mean(2, keepdim=True)).half(), 0.5 * mixed

    windows = plan_windows(FRAMES, SIZE, OVERLAP)
    options = {"windows": windows, "eta": 0.5, "generator": generator, "processes": processes}
    return {"video": denoise(predict, start, scheduler, **options), "seen": seen}


def share(folder: Path) -> None:
    """Make it with the other processes and save what this one has."""
    with torchrun_processes() as processes:
        torch.save(make(processes), folder / f"{processes.rank}.pt")
