"""The folder of a run: its configuration, its log and its checkpoints, each written whole."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from unianimate.models.checkpoints.files import read_checkpoint
from unianimate.training.config import TrainConfig

_CONFIG, _LOG, _CHECKPOINTS = "config.yaml", "log.jsonl", "checkpoints"


class Checkpoint(NamedTuple):
    """What a run needs to go on."""

    step: int  # steps done
    weights: dict[str, Tensor]  # of the parameters that are trained
    averages: dict[str, Tensor]  # their moving averages, empty without
    optimizer: dict[str, Any]
    scaler: dict[str, Any] = {}  # noqa: RUF012  # never changed; of fp16's gradients, else empty


class RunFolder:
    """Keeps what a run writes.

    Args:
        folder: made if it is not there.
        keep: checkpoints that are kept.
    """

    def __init__(self, folder: str | Path, *, keep: int = 2) -> None:
        self.folder, self.keep = Path(folder), keep
        (self.folder / _CHECKPOINTS).mkdir(parents=True, exist_ok=True)

    def write_config(self, config: TrainConfig) -> None:
        """Write the configuration, to be read by people and by `load_config`."""
        text = yaml.safe_dump(config.to_dict(), sort_keys=False)
        _write_text(self.folder / _CONFIG, text)

    def log(self, record: dict[str, Any]) -> None:
        """Add a line to the log."""
        with (self.folder / _LOG).open("a") as file:
            file.write(json.dumps(record) + "\n")

    def forget_log_after(self, step: int) -> None:
        """Drop lines about steps that will be done again."""
        path = self.folder / _LOG
        if path.exists():
            kept = [line for line in _complete_lines(path) if json.loads(line)["step"] <= step]
            _write_text(path, "".join(line + "\n" for line in kept))

    def records(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        path = self.folder / _LOG
        return [json.loads(line) for line in _complete_lines(path)] if path.exists() else []

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all, and drop the oldest.

        Raises:
            OSError: it cannot be written.
        """
        final = self._path(checkpoint.step)
        unfinished = final.with_name(f".{final.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            torch.save(checkpoint._asdict(), unfinished / "state.pt")
            with (unfinished / "state.pt").open("rb") as file:
                os.fsync(file.fileno())
        except (RuntimeError, OSError) as error:  # torch's writer knows no other error
            shutil.rmtree(unfinished)
            raise OSError(
                f"{final}: the checkpoint could not be written ({error}); make room on the disk "
                f"and go on with the same command"
            ) from error
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
        for old in self._checkpoints()[: -self.keep]:
            shutil.rmtree(old)

    def last(self) -> Checkpoint | None:
        """Return the newest checkpoint, if there is one."""
        found = self._checkpoints()
        if not found:
            return None
        return Checkpoint(**read_checkpoint(found[-1] / "state.pt"))

    @property
    def model(self) -> Path:
        """Where the trained model is written as a model folder."""
        return self.folder / "model"

    @property
    def samples(self) -> Path:
        """Where pictures of samples are written."""
        return self.folder / "samples"

    def _path(self, step: int) -> Path:
        return self.folder / _CHECKPOINTS / f"step-{step:08d}"

    def _checkpoints(self) -> list[Path]:
        return sorted((self.folder / _CHECKPOINTS).glob("step-*"))


def _complete_lines(path: Path) -> Iterator[str]:
    """Yield lines that end; a killed run may leave half a line."""
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield line.rstrip("\n")


def _write_text(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, path)
