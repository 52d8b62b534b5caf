"""The training loop: one for every stage."""

import time
from collections.abc import Callable, Iterator

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from unianimate.data.clips import ClipBatches
from unianimate.training.average import WeightAverage
from unianimate.training.batch import Batch, TrainingClips, collate
from unianimate.training.config import TrainConfig
from unianimate.training.run_folder import Checkpoint, RunFolder
from unianimate.training.schedule import rate_at

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
        ValueError: the batch cannot be shared out, or the loss is not finite.
    """
    share = config.batch_size // (accelerator.num_processes * config.accumulation)
    if share * accelerator.num_processes * config.accumulation != config.batch_size:
        raise ValueError(
            f"batch_size ({config.batch_size}) must be a multiple of processes "
            f"({accelerator.num_processes}) x accumulation ({config.accumulation})"
        )
    trained = {name: p for name, p in task.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(
        trained.values(),
        lr=config.optimizer.learning_rate,
        betas=config.optimizer.betas,
        weight_decay=config.optimizer.weight_decay,
    )
    wrapped, optimizer = accelerator.prepare(task, optimizer)
    average = None
    if config.optimizer.ema:
        average = WeightAverage(trained.items(), config.optimizer.ema)
    first = _resume(run, trained, optimizer, average)

    started = time.perf_counter()
    for step, batch in enumerate(_batches(clips, config, accelerator, first), start=first):
        for group in optimizer.param_groups:
            group["lr"] = config.optimizer.learning_rate * rate_at(
                step, config.steps, config.optimizer
            )
        record = _backward(wrapped, batch, config.accumulation, accelerator)
        norm = accelerator.clip_grad_norm_(trained.values(), config.optimizer.clip)
        optimizer.step()
        optimizer.zero_grad()
        if average is not None:
            average.update(step)

        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            means = accelerator.reduce(record, "mean")
            line = {name: float(value) for name, value in means.items()}
            if not torch.isfinite(means["loss"]):
                raise ValueError(
                    f"the loss is {line['loss']} at step {done}; resume with a lower learning rate"
                )
            line |= {"norm": float(norm), "rate": optimizer.param_groups[0]["lr"]}
            line["seconds"] = time.perf_counter() - started
            _write(line, done, run, accelerator, report)
        if sample is not None and config.sample_every and done % config.sample_every == 0:
            with average.applied() if average else torch.no_grad():
                _write(sample(done), done, run, accelerator, report)
        if (done % config.save_every == 0 or done == config.steps) and accelerator.is_main_process:
            weights = {name: p.detach() for name, p in trained.items()}
            averages = average.averages if average else {}
            run.save(Checkpoint(done, weights, averages, optimizer.state_dict()))
    accelerator.wait_for_everyone()
    return average


def _batches(
    clips: TrainingClips, config: TrainConfig, accelerator: Accelerator, first: int
) -> Iterator[Batch]:
    """Yield the share of this process in every step from the first on."""
    sampler = ClipBatches(
        config.batch_size,
        config.data.frames if config.stage == "diffusion" else (1,),
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
    task: nn.Module, batch: Batch, parts: int, accelerator: Accelerator
) -> dict[str, Tensor]:
    """Add the gradient of a step, part by part; return the means of what the task tells."""
    told: list[dict[str, Tensor]] = []
    for number, part in enumerate(batch.split(parts), start=1):
        # gradients of several processes are averaged once, with the last part
        with accelerator.no_sync(task) if number < parts else torch.enable_grad():
            with accelerator.autocast():
                told.append(task(part))
            accelerator.backward(told[-1]["loss"] / parts)
    return {name: torch.stack([t[name].detach() for t in told]).mean() for name in told[0]}


def _resume(
    run: RunFolder,
    trained: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
) -> int:
    """Load the last checkpoint; return the steps it has done."""
    checkpoint = run.last()
    if checkpoint is None:
        return 0
    if set(checkpoint.weights) != set(trained):
        raise ValueError(
            f"{run.folder}: its checkpoint is of other parameters than this run trains"
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(checkpoint.weights[name])
    optimizer.load_state_dict(checkpoint.optimizer)
    if average is not None and checkpoint.averages:
        average.load(checkpoint.averages)
    run.forget_log_after(checkpoint.step)
    return checkpoint.step


def _write(
    line: Record, step: int, run: RunFolder, accelerator: Accelerator, report: Report | None
) -> None:
    if accelerator.is_main_process:
        run.log({"step": step, **line})
        accelerator.log(line, step=step)
        if report is not None:
            report({"step": step, **line})
