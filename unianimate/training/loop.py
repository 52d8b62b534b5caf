"""The training loop: one for every stage."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from unianimate.data.clips import ClipBatches, ClipRequest
from unianimate.training.average import WeightAverage
from unianimate.training.batch import Batch, TrainingClips, collate
from unianimate.training.config import OptimizerConfig, TrainConfig
from unianimate.training.draws import seed_of
from unianimate.training.muon import Muon, matrices_of
from unianimate.training.run_folder import Checkpoint, RunFolder
from unianimate.training.schedule import rate_at
from unianimate.training.sharding import like, load_optimizer, shard, whole, whole_state

Record = dict[str, float]
Report = Callable[[Record], None]
Sample = Callable[[int], Record]


def train(
    task: nn.Module,
    clips: TrainingClips,
    config: TrainConfig,
    run: RunFolder,
    accelerator: Accelerator,
    *,
    report: Report | None = None,
    sample: Sample | None = None,
) -> WeightAverage | None:
    """Train the parameters of a task that require gradients, from the run's last checkpoint on.

    Every random draw depends on the seed and the number of the step or example, so a run that was
    killed goes on to the same losses, and several processes compute what one would.

    Args:
        task: maps a `Batch` to ``{"loss": ..., more to log}``; changed in place.
        clips: the examples.
        config: of the run.
        run: where checkpoints and the log go.
        accelerator: devices, processes and precision.
        report: told every line of the log.
        sample: makes samples after a step and returns their metrics.

    Returns:
        The moving average of the weights, if there is one.

    Raises:
        ValueError: the batch cannot be shared out, no example can be made, the checkpoint is of
            other parameters, or the loss is not finite.
    """
    _expect_equal_parts(config, accelerator)
    lengths = _lengths(config)
    for number, length in enumerate(lengths):
        # what no example can be made of is told here: workers would wrap it in their own error
        clips[ClipRequest(number, length)]
    sharded = config.sharded and accelerator.num_processes > 1
    if sharded:
        shard(task)
    trained = {name: p for name, p in task.named_parameters() if p.requires_grad}
    optimizer = _optimizer(task, list(trained.values()), config.optimizer)
    wrapped = task if sharded else accelerator.prepare(task)
    optimizer = accelerator.prepare(optimizer)
    average = None
    if config.optimizer.ema:
        average = WeightAverage(trained.items(), config.optimizer.ema)
    first = _resume(run, config.steps, trained, optimizer, average, accelerator)
    if accelerator.is_main_process:
        run.write_config(config)  # not before: a run that is refused keeps its settings

    started = time.perf_counter()
    for step, batch in enumerate(_batches(clips, config, accelerator, first), start=first):
        for group in optimizer.param_groups:
            group["lr"] = config.optimizer.learning_rate * rate_at(
                step, config.steps, config.optimizer
            )
        record = _backward(wrapped, batch, config, accelerator)
        norm = whole(accelerator.clip_grad_norm_(trained.values(), config.optimizer.clip))
        optimizer.step()
        optimizer.zero_grad()
        if average is not None:
            average.update(step)

        done = step + 1
        saved = done % config.save_every == 0 or done == config.steps
        logged = done % config.log_every == 0 or done == config.steps
        if saved or logged:
            line = {k: float(v) for k, v in accelerator.reduce(record, "mean").items()}
            line |= {"norm": float(norm), "rate": optimizer.param_groups[0]["lr"]}
            _expect_finite(line, done, config)
        if logged:
            line["seconds"] = time.perf_counter() - started
            _write(line, done, run, accelerator, report)
        if sample is not None and config.sample_every and done % config.sample_every == 0:
            with average.applied() if average else nullcontext():
                metrics = sample(done)
            _write(metrics, done, run, accelerator, report)
        if saved:
            checkpoint = _checkpoint(done, trained, optimizer, average, accelerator)
            if accelerator.is_main_process:
                run.save(checkpoint)
    accelerator.wait_for_everyone()
    return average


def _optimizer(
    task: nn.Module, trained: list[nn.Parameter], config: OptimizerConfig
) -> torch.optim.Optimizer:
    rates: Any = {
        "lr": config.learning_rate,
        "betas": config.betas,
        "weight_decay": config.weight_decay,
    }
    if config.kind == "adamw":
        # fused: one call for all tensors; a loop over a thousand small ones costs more
        return torch.optim.AdamW(trained, fused=True, **rates)
    matrices = matrices_of(task)
    known = set(map(id, matrices))
    return Muon(matrices, [p for p in trained if id(p) not in known], **rates)


def _lengths(config: TrainConfig) -> tuple[int, ...]:
    """Return the lengths of clips that a run draws from."""
    return (1,) if config.stage == "vae" else config.data.frames


def _expect_equal_parts(config: TrainConfig, accelerator: Accelerator) -> None:
    parts = accelerator.num_processes * config.accumulation
    if config.batch_size % parts:
        raise ValueError(
            f"batch_size ({config.batch_size}) must be a multiple of processes "
            f"({accelerator.num_processes}) x accumulation ({config.accumulation})"
        )


def _expect_finite(line: Record, step: int, config: TrainConfig) -> None:
    """Stop before a checkpoint is spoilt; with fp16 a step without finite gradient is left out."""
    for name in ("loss",) if config.precision == "fp16" else ("loss", "norm"):
        if not math.isfinite(line[name]):
            what = "loss" if name == "loss" else "norm of the gradient"
            raise ValueError(
                f"the {what} is {line[name]} at step {step}; resume with a lower learning rate"
            )


def _batches(
    clips: TrainingClips, config: TrainConfig, accelerator: Accelerator, first: int
) -> Iterator[Batch]:
    """Yield the share of this process in every step from the first on."""
    sampler = ClipBatches(
        config.batch_size,
        _lengths(config),
        first,
        config.steps,
        config.seed,
        accelerator.process_index,
        accelerator.num_processes,
    )
    workers = config.data.workers
    loader: DataLoader[Batch] = DataLoader(
        clips,  # type: ignore[arg-type]  # asked by requests, not by integers
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=accelerator.device.type == "cuda",
        multiprocessing_context="spawn" if workers else None,
    )
    for batch in loader:
        yield batch.to(accelerator.device)


def _backward(
    task: nn.Module, batch: Batch, config: TrainConfig, accelerator: Accelerator
) -> dict[str, Tensor]:
    """Add the gradient of a step, part by part; return the means of what the task tells."""
    told: list[dict[str, Tensor]] = []
    parts = config.accumulation
    for number, part in enumerate(batch.split(parts), start=1):
        # dropout inside the network draws from torch's own generators
        torch.manual_seed(seed_of(config.seed, int(part.numbers[0])))
        # gradients of several processes are averaged once, with the last part
        with accelerator.no_sync(task) if number < parts else nullcontext():
            with accelerator.autocast():
                told.append(task(part))
            accelerator.backward(told[-1]["loss"] / parts)
    return {name: torch.stack([t[name].detach() for t in told]).mean() for name in told[0]}


def _checkpoint(
    step: int,
    trained: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    accelerator: Accelerator,
) -> Checkpoint:
    """Return what a run needs to go on, whole however it is spread over processes."""
    return Checkpoint(
        step,
        {name: whole_state(p) for name, p in trained.items()},
        whole_state(average.averages) if average else {},
        whole_state(optimizer.state_dict()),
        accelerator.scaler.state_dict() if accelerator.scaler else {},
    )


def _resume(
    run: RunFolder,
    steps: int,
    trained: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    accelerator: Accelerator,
) -> int:
    """Load the last checkpoint; return the steps it has done."""
    checkpoint = run.last()
    step = checkpoint.step if checkpoint else 0
    if checkpoint is not None and set(checkpoint.weights) != set(trained):
        raise ValueError(
            f"{run.folder}: its checkpoint is of other parameters than this run trains: go on "
            f"with the settings in its config.yaml, or name another folder"
        )
    if step > steps:
        raise ValueError(
            f"{run.folder}: its checkpoint has {step} steps, and steps is {steps}: ask for at "
            f"least as many, or name another folder"
        )
    if accelerator.is_main_process:
        run.forget_log_after(step)
    if checkpoint is None:
        return step
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(like(checkpoint.weights[name], parameter))
    load_optimizer(optimizer, checkpoint.optimizer, list(trained.values()))
    if average is not None:
        # a run that had no average begins it here
        average.load(checkpoint.averages or checkpoint.weights)
    if accelerator.scaler and checkpoint.scaler:
        accelerator.scaler.load_state_dict(checkpoint.scaler)
    return step


def _write(
    line: Record, step: int, run: RunFolder, accelerator: Accelerator, report: Report | None
) -> None:
    if accelerator.is_main_process:
        run.log({"step": step, **line})
        accelerator.log(line, step=step)
        if report is not None:
            report({"step": step, **line})
