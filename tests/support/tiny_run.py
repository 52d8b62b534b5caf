"""Training runs of the `test` preset on a few small puppets: seconds on one core."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from unianimate.data.clips import ClipDataset
from unianimate.training.batch import Batch, TrainingClips
from unianimate.training.config import TrainConfig, load_config
from unianimate.training.draws import generator_of
from unianimate.training.loop import train
from unianimate.training.run import run_training
from unianimate.training.run_folder import RunFolder

PRESET: dict[str, Any] = {
    "model": "test",
    "data": {"count": 3, "video_frames": 6, "frames": [2], "strides": [1], "workers": 0},
    "optimizer": {"learning_rate": 1e-3, "warmup": 2, "ema": 0.9},
    "steps": 4,
    "batch_size": 2,
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


def two_networks(config: TrainConfig, folder: Path) -> None:
    """Train a network beside a separate one for the reference."""
    from examples.separate_reference import train as train_both

    train_both(config, folder, dim=32, channels=(32, 32))


class Noise:
    """A `VideoSet` of pictures of 2 x 2 pixels."""

    def __len__(self) -> int:
        return 3

    def num_frames(self, index: int) -> int:
        return 6

    def read(self, index: int, frames: Any) -> tuple[np.ndarray, np.ndarray]:
        video = np.random.default_rng(index).integers(0, 255, (2, 6, 2, 2, 3), dtype=np.uint8)
        return video[0][list(frames)], video[1][list(frames)]


class Brightness(nn.Module):
    """A task of milliseconds: tell the pose's pixels from the frame's, through noise."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(12, 8), nn.Dropout(dropout), nn.Linear(8, 12))

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        frames, poses = (x.flatten(2).float() / 255 for x in batch.pictures[:2])
        noise = [torch.randn(12, generator=generator_of(0, int(n))) for n in batch.numbers]
        error = self.net(frames + 0.1 * torch.stack(noise)[:, None]) - poses
        return {"loss": error.square().mean(), "size": error.detach().abs().mean()}


def quick(folder: Path, config: TrainConfig, task: nn.Module | None = None, **options: Any):
    """Train a `Brightness` by the loop alone; return the log and the average."""
    clips = TrainingClips(ClipDataset(Noise(), config.seed, config.data.strides))
    task = Brightness() if task is None else task
    average = train(task, clips, config, RunFolder(folder), Accelerator(), **options)
    return curve(folder), average


def killed_run(where: str, count: int, folder: Path, cache: Path) -> None:
    """Train until the count-th call of a function that matters for what is on disk, then die."""
    calls = 0

    def deadly(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == count:
                if where == "write":
                    args[0].write(args[1][: len(args[1]) // 2])
                    args[0].flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    if where == "fsync":
        os.fsync = deadly(os.fsync)
    elif where == "rename":
        Path.rename = deadly(Path.rename)
    elif where == "step":
        torch.optim.AdamW.step = deadly(torch.optim.AdamW.step)
    else:
        write = deadly(lambda file, text: file.write(text))

        def log(self: RunFolder, record: dict[str, float]) -> None:
            with (self.folder / "log.jsonl").open("a") as file:
                write(file, json.dumps(record) + "\n")

        RunFolder.log = log
    run(folder, tiny(cache))
