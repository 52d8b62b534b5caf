"""Training runs of the `test` preset on a few small puppets: seconds on one core."""

import os
import sys
from pathlib import Path
from typing import Any

import torch

from unianimate.training.config import TrainConfig, load_config
from unianimate.training.run import run_training
from unianimate.training.run_folder import RunFolder

PRESET: dict[str, Any] = {
    "model": "test",
    "data": {"count": 3, "video_frames": 6, "frames": [2], "strides": [1], "workers": 0},
    "optimizer": {"learning_rate": 1e-3, "warmup": 2, "ema": 0.9},
    "steps": 6,
    "batch_size": 4,
    "precision": "fp32",
    "save_every": 2,
    "log_every": 1,
}


def tiny(cache: Path | None = None, **settings: Any) -> TrainConfig:
    """Return a configuration; names of settings have __ for the dot."""
    given = {name.replace("__", "."): str(value) for name, value in settings.items()}
    if cache is not None:
        given["data.cache"] = str(cache)
    return load_config(PRESET, settings=given)


def curve(folder: Path) -> list[dict[str, float]]:
    """Return the log of a run without what differs from one day to the next."""
    lines = RunFolder(folder).records()
    return [{name: x for name, x in line.items() if name != "seconds"} for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights that a run's last checkpoint holds."""
    last = RunFolder(folder).last()
    assert last is not None
    return last.weights


def environment(**more: str) -> dict[str, str]:
    """Return the environment of another process that sees this one's sources."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join(filter(None, [here, *sys.path]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def run(folder: Path, config: TrainConfig) -> list[dict[str, float]]:
    """Train in this process; return the log."""
    run_training(config, folder)
    return curve(folder)
