"""A whole run: the model it starts from, its videos, the loop, and the model folder it ends in."""

import dataclasses
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn

from unianimate.data.clips import BrokenVideoError, ClipDataset, VideoSet
from unianimate.models import UniAnimate
from unianimate.training.batch import TrainingClips
from unianimate.training.config import TrainConfig
from unianimate.training.diffusion import DiffusionTask
from unianimate.training.distill import DistillationTask
from unianimate.training.loop import Report, train
from unianimate.training.lora import merge_lora
from unianimate.training.parts import check_expressions
from unianimate.training.run_folder import RunFolder
from unianimate.training.samples import Samples
from unianimate.training.sharding import whole_state
from unianimate.training.start import start_model
from unianimate.training.vae import VAETask, whiten
from unianimate.training.videos import open_videos, with_latents

Progress = Callable[[str, int, int], None]

# pictures that give the latents their unit variance
_WHITENED = 512
# longer than one process takes to prepare the videos for all
_PATIENCE = timedelta(days=1)


def run_training(
    config: TrainConfig,
    folder: str | Path,
    *,
    model: UniAnimate | None = None,
    report: Report | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train, or go on training, and write the model.

    Args:
        config: of the run.
        folder: of the run; one that has checkpoints goes on from the last.
        model: to train instead of the one that the configuration names, such as a model of your
            own class; changed in place.
        report: told every line of the log.
        progress: told what is prepared, how much is done and how much there is in all.

    Processes that ``torchrun`` started join for the run, unless they have joined already.

    Returns:
        The model folder.

    Raises:
        ValueError: a setting that does not fit the others, the model or the folder.
        OSError: something cannot be read or written.
    """
    _check(config)
    # a model of another class may have parameters that nothing reaches
    unused = DistributedDataParallelKwargs(find_unused_parameters=model is not None)
    model = start_model(config) if model is None else model
    joined = dist.is_initialized()
    accelerator = Accelerator(
        # left to itself, each of torchrun's processes would train alone where there is no GPU
        cpu=dist.is_torchelastic_launched() and not torch.cuda.is_available(),
        mixed_precision="no" if config.precision == "fp32" else config.precision,
        log_with="tensorboard",
        project_dir=folder,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE), unused],
    )
    run = RunFolder(folder, keep=config.keep)
    accelerator.init_trackers("tensorboard")
    with accelerator.main_process_first():
        videos = open_videos(
            config.data,
            model.config.width,
            model.config.height,
            progress=_about("videos", progress),
        )
        if config.stage != "vae":
            model.vae.requires_grad_(False)
            model.vae.to(accelerator.device)
            videos = with_latents(videos, model.vae, progress=_about("latents", progress))
    task = _task(model, config).to(accelerator.device)
    task.train()
    # a network that was trained on the latents of an encoder goes on to see these
    whitened = config.stage == "vae" and _is_trained(model.vae.model.encoder)
    clips = TrainingClips(
        ClipDataset(videos, config.seed, config.data.strides, config.data.reversal)
    )
    samples = None
    if config.sample_every:
        samples = Samples(model, task, config, run.samples, accelerator)
    average = train(task, clips, config, run, accelerator, report=report, sample=samples)
    if average is not None:
        average.apply()
    merge_lora(model)
    model = _whole(model) if config.sharded else model
    if accelerator.is_main_process:
        model.eval()
        if whitened:
            whiten(model.vae, _some_pictures(videos))
        _save(model, run.model)
    accelerator.wait_for_everyone()
    for tracker in accelerator.trackers:
        tracker.finish()
    if dist.is_initialized() and not joined:
        dist.destroy_process_group()
    return run.model


def _check(config: TrainConfig) -> None:
    """Check settings that go together.

    Raises:
        ValueError: they do not.
    """
    if config.stage != "diffusion" and config.sample_every:
        raise ValueError(f"sample_every: stage {config.stage} has no samples; set it to 0")
    if config.stage == "distill" and config.temporal is None:
        raise ValueError("temporal: stage distill needs the mixers to be taught, such as mamba")
    if config.stage != "diffusion" and config.diffusion.lora_rank:
        raise ValueError(f"diffusion.lora_rank: stage {config.stage} has no LoRA; set it to 0")
    if config.sharded and config.diffusion.lora_rank:
        raise ValueError(
            "sharded: LoRA trains too little to spread; take one of sharded and "
            "diffusion.lora_rank, and gradient_checkpointing to save memory"
        )
    if config.optimizer.kind == "muon" and config.diffusion.lora_rank:
        raise ValueError("optimizer.kind: muon is for whole weights: take adamw with lora_rank")
    check_expressions(config.diffusion.train, "diffusion.train")
    check_expressions(config.vae.train, "vae.train")
    if config.optimizer.kind == "muon" and (config.sharded or config.precision == "fp16"):
        raise ValueError(
            "optimizer.kind: muon needs whole matrices and gradients without a scale: take adamw "
            "with sharded or precision fp16"
        )
    if config.sharded and config.precision == "fp16":
        raise ValueError("sharded: takes precision bf16 or fp32, got fp16")


def _task(model: UniAnimate, config: TrainConfig) -> nn.Module:
    match config.stage:
        case "vae":
            model.vae.model.to(memory_format=torch.channels_last)
            return VAETask(model.vae, config.vae, config.seed)
        case "diffusion":
            return DiffusionTask(model, config)
        case "distill":
            teacher = start_model(dataclasses.replace(config, temporal=None))
            return DistillationTask(teacher, model, config)


def _is_trained(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())


def _some_pictures(videos: VideoSet) -> Tensor:
    """Return uint8 pictures (N, H, W, 3) of different videos; training tolerates broken ones."""
    some = []
    for index in range(_WHITENED):
        video = index % len(videos)
        with suppress(BrokenVideoError):
            some.append(videos.read(video, [index % videos.num_frames(video)])[0])
    return torch.from_numpy(np.concatenate(some))


def _whole(model: UniAnimate) -> UniAnimate:
    """Return a model whose weights were spread over the processes, put together; all must call."""
    state = whole_state(model.state_dict())
    with torch.device("meta"):
        together = type(model)(model.config)
    together.load_state_dict(state, assign=True)
    return together


def _save(model: UniAnimate, folder: Path) -> None:
    """Write the model folder, whole or not at all."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.to("cpu").save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _about(what: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else partial(progress, what)
