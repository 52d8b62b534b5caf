"""Samples while a model is trained: pictures to look at, and their metrics."""

from pathlib import Path

import numpy as np
from accelerate import Accelerator
from PIL import Image
from torch import nn

from unianimate.data.clips import BrokenVideoError, VideoSet
from unianimate.models import UniAnimate
from unianimate.pipelines import AnimatePipeline
from unianimate.training.cases import Case, clip_case, evaluate_cases, puppet_cases
from unianimate.training.config import TrainConfig
from unianimate.training.puppet_test import PuppetTest
from unianimate.training.sharding import gathered
from unianimate.training.videos import open_validation


class Samples:
    """Animates the same few cases again and again, with the same noise.

    Puppets that training never meets, or the first frames of the validation videos. Every process
    makes all of them, so that none waits; one writes.

    Args:
        model: as it is trained.
        task: that holds it.
        config: of the run.
        folder: where contact sheets go, one a step.
        accelerator: its trackers get the pictures, too.

    Raises:
        ValueError: there are no videos to make samples of.
        OSError: they cannot be read.
    """

    def __init__(
        self,
        model: UniAnimate,
        task: nn.Module,
        config: TrainConfig,
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        self._model, self._task = model, task
        self._folder, self._accelerator = folder, accelerator
        self._cases = sample_cases(model, config)

    def __call__(self, step: int) -> dict[str, float]:
        """Make the samples of a step; return the metrics, as ``sample/psnr``."""
        self._model.eval()
        pipeline = AnimatePipeline(self._model)
        try:
            with gathered(self._task), self._accelerator.autocast():
                made = [case.animate(pipeline) for case in self._cases]
        finally:
            self._task.train()
        if self._accelerator.is_main_process:
            self._show(np.concatenate([c.sheet(m) for c, m in zip(self._cases, made)]), step)
        done = evaluate_cases(self._cases, made)
        return {f"sample/{name}": measure.mean for name, measure in done.measures.items()}

    def _show(self, sheet: np.ndarray, step: int) -> None:
        self._folder.mkdir(exist_ok=True)
        Image.fromarray(sheet).save(self._folder / f"step-{step:08d}.png")
        tracker = self._accelerator.get_tracker("tensorboard")
        tracker.log_images({"samples": sheet[None]}, step=step, dataformats="NHWC")


def sample_cases(model: UniAnimate, config: TrainConfig) -> list[Case]:
    """Return what a run makes samples of.

    Raises:
        ValueError: there are no videos for it.
        OSError: they cannot be read.
    """
    width, height, frames = model.config.width, model.config.height, model.config.num_frames
    if config.data.kind == "puppets":
        return puppet_cases(PuppetTest(config.samples, frames, width, height))
    return _first_frames(open_validation(config.data, width, height), config, frames)


def _first_frames(videos: VideoSet, config: TrainConfig, num_frames: int) -> list[Case]:
    """Return the first frames of the first videos that can be read and are long enough."""
    stride = min(config.data.strides)
    cases: list[Case] = []
    for index in range(len(videos)):
        try:
            if (num_frames - 1) * stride < videos.num_frames(index):
                numbers = [number * stride for number in range(num_frames)]
                cases.append(clip_case(videos, index, numbers))
        except BrokenVideoError:
            continue
        if len(cases) == config.samples:
            break
    if not cases:
        raise ValueError(
            f"data.validation: none of {len(videos)} videos can be read and has "
            f"{(num_frames - 1) * stride + 1} frames"
        )
    return cases
