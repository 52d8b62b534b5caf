"""A whole run: the model it starts from, its videos, the loop, and the model folder it ends in."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from unianimate.data.clips import ClipDataset, VideoSet
from unianimate.models import UniAnimate
from unianimate.training.batch import TrainingClips
from unianimate.training.config import TrainConfig
from unianimate.training.diffusion import DiffusionTask
from unianimate.training.loop import Report, train
from unianimate.training.run_folder import RunFolder
from unianimate.training.start import start_model
from unianimate.training.vae import VAETask, whiten
from unianimate.training.videos import open_videos, with_latents

Progress = Callable[[str, int, int], None]

# pictures that give the latents their unit variance
_WHITENED = 512


def run_training(
    config: TrainConfig,
    folder: str | Path,
    *,
    report: Report | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train, or go on training, and write the model.

    Args:
        config: of the run.
        folder: of the run; one that has checkpoints goes on from the last.
        report: told every line of the log.
        progress: told what is prepared, how much is done and how much there is in all.

    Returns:
        The model folder.

    Raises:
        ValueError: a setting that does not fit the others, the model or the folder.
        OSError: something cannot be read or written.
    """
    run = RunFolder(folder, keep=config.keep)
    accelerator = Accelerator(
        mixed_precision="no" if config.precision == "fp32" else config.precision,
        log_with="tensorboard",
        project_dir=folder,
    )
    accelerator.init_trackers("tensorboard")
    model = start_model(config)
    if accelerator.is_main_process:
        run.write_config(config)
    with accelerator.main_process_first():
        videos = open_videos(
            config.data,
            model.config.width,
            model.config.height,
            progress=_about("videos", progress),
        )
        if config.stage == "diffusion":
            model.vae.requires_grad_(False)
            model.vae.to(accelerator.device)
            videos = with_latents(videos, model.vae, progress=_about("latents", progress))
    task = _task(model, config).to(accelerator.device)
    task.train()
    clips = TrainingClips(
        ClipDataset(videos, config.seed, config.data.strides, config.data.reversal)
    )
    average = train(task, clips, config, run, accelerator, report=report)
    if accelerator.is_main_process:
        model.eval()
        if average is not None:
            average.apply()
        if config.stage == "vae":
            whiten(model.vae, _some_pictures(videos))
        _save(model, run.model)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return run.model


def _task(model: UniAnimate, config: TrainConfig) -> nn.Module:
    if config.stage == "vae":
        model.vae.model.to(memory_format=torch.channels_last)
        return VAETask(model.vae, config.vae, config.seed)
    return DiffusionTask(model, config)


def _some_pictures(videos: VideoSet) -> Tensor:
    """Return uint8 pictures (N, H, W, 3) of different videos."""
    some = [
        videos.read(index % len(videos), [index % videos.num_frames(index % len(videos))])[0]
        for index in range(_WHITENED)
    ]
    return torch.from_numpy(np.concatenate(some))


def _save(model: UniAnimate, folder: Path) -> None:
    """Write the model folder, whole or not at all."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.to("cpu").save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _about(what: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else partial(progress, what)
