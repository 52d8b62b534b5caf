"""`Checkpoint`: a folder that keeps what a run has finished, so that another can go on with it."""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .folder_lock import hold, release

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class SamplerState:
    """Where sampling is: all that the steps still to come depend on.

    Args:
        segment: number of the segment in the making.
        step: steps of it that are done.
        latents: (1, C, F, h, w) after that step.
        generator: state of the random generator after that step.
        scheduler: what the scheduler remembers from one step to the next.
        first_frame: (3, H, W) in [0, 1], the picture the segment starts from, if any.
    """

    segment: int
    step: int
    latents: Tensor
    generator: Tensor
    scheduler: dict[str, Any]
    first_frame: Tensor | None


class Store(Protocol):
    """Where a run keeps what is finished: a `Checkpoint` that is open, or `Nowhere`."""

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that are kept, uint8 RGB (H, W, 3), from the first on."""
        ...

    def keep_frame(self, number: int, frame: Frame) -> None:
        """Keep a final frame."""
        ...

    def load(self) -> SamplerState | None:
        """Return the last state that was saved."""
        ...

    def save(self, state: SamplerState) -> None:
        """Keep this state in place of the last one."""
        ...


class Nowhere:
    """Keeps nothing."""

    def frames(self) -> Iterator[Frame]:
        """Yield nothing."""
        return iter(())

    def keep_frame(self, number: int, frame: Frame) -> None:
        """Do nothing."""

    def load(self) -> SamplerState | None:
        """Return None."""
        return None

    def save(self, state: SamplerState) -> None:
        """Do nothing."""


class Checkpoint:
    """A folder that keeps a run: its state after every step, and every final frame as a PNG.

    A run that was interrupted at any moment, even killed, goes on from its folder and gives the
    same frames bit for bit, on the same machine with the same settings. Each file appears only when
    it is complete, and one process at a time may hold the folder. Nothing is written before a
    pipeline opens it.

    Example:
        >>> checkpoint = Checkpoint("dance.unfinished")
        >>> for frame in pipeline.stream(photo, poses, checkpoint=checkpoint):
        ...     writer.write(frame)
        >>> checkpoint.remove()

    Args:
        folder: made if it is not there; the folder above it must exist.
        resume: go on with what is kept; False starts afresh and drops it.

    Attributes:
        folder: the same.
        scratch: a folder in it for files that are not complete; emptied when a run opens it.
        resumed_frames: frames that an earlier run kept.
    """

    def __init__(self, folder: str | Path, *, resume: bool = True) -> None:
        self.folder = Path(folder)
        self.scratch = self.folder / "scratch"
        self.resumed_frames = 0
        self._resume = resume
        self._run, self._state = self.folder / "run.json", self.folder / "state.pt"
        self._frames = self.folder / "frames"
        self._is_open = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept that a run could go on with."""
        return not self._state.exists()

    def open(self, run: Mapping[str, Any]) -> None:
        """Begin, or go on with, the run these entries tell from all others.

        Args:
            run: settings and digests by name, as JSON has them.

        Raises:
            ValueError: the folder keeps another run; the message says in what it differs.
            FileExistsError: the folder holds other things.
            BlockingIOError: another process holds the folder.
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(exist_ok=True)
        if not self._run.is_file() and any(path != self.scratch for path in self.folder.iterdir()):
            raise FileExistsError(f"{self.folder}: this folder holds other things; name another")
        text = json.dumps(run, indent=2).encode()
        hold(self.folder)
        go_on = self._resume and not self.is_empty
        if go_on:
            try:
                self._expect(run)
            except ValueError:
                release(self.folder)
                raise
        self._is_open = True
        if not go_on:
            self._clear()
        self._empty_scratch()
        if not go_on:
            self._write(self._run, lambda file: file.write(text))
            self._frames.mkdir()
        self.resumed_frames = len(list(self._frames.iterdir()))

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that an earlier run kept, uint8 RGB (H, W, 3).

        Raises:
            ValueError: one of them is damaged.
        """
        for number in range(self.resumed_frames):
            path = self._frame(number)
            try:
                with Image.open(path) as picture:
                    frame = np.asarray(picture)
            except (OSError, SyntaxError) as error:
                raise _damaged(path) from error
            yield frame

    def keep_frame(self, number: int, frame: Frame) -> None:
        """Keep a final frame; they come in order."""
        picture = Image.fromarray(frame)
        # stronger compression takes several times as long and saves little
        self._write(self._frame(number), lambda file: picture.save(file, "PNG", compress_level=1))

    def load(self) -> SamplerState | None:
        """Return the last state that was saved.

        Raises:
            ValueError: it is damaged.
        """
        if self.is_empty:
            return None
        try:
            return SamplerState(**torch.load(self._state, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises many kinds for a damaged file
            raise _damaged(self._state) from error

    def save(self, state: SamplerState) -> None:
        """Keep this state in place of the last one."""
        content = {field.name: getattr(state, field.name) for field in fields(state)}
        # torch turns errors of a file into others that do not tell what is wrong
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self._write(self._state, lambda file: file.write(buffer.getbuffer()))

    def close(self) -> None:
        """Let other processes have the folder, and keep what is in it."""
        if self._is_open:
            release(self.folder)
            self._is_open = False

    def remove(self) -> None:
        """Remove what is kept, and the folder; does nothing if no run has opened it."""
        if self._is_open:
            self._clear()
            self.folder.rmdir()
            self.close()

    def _frame(self, number: int) -> Path:
        return self._frames / f"{number:05d}.png"

    def _expect(self, run: Mapping[str, Any]) -> None:
        try:
            kept = json.loads(self._run.read_bytes())
        except ValueError as error:
            raise _damaged(self._run) from error
        wanted = json.loads(json.dumps(run))
        differences = [
            f"{name} was {kept.get(name)} and is {wanted.get(name)}"
            for name in dict.fromkeys((*kept, *wanted))
            if kept.get(name) != wanted.get(name)
        ]
        if differences:
            raise ValueError(
                f"{self.folder} keeps another run, which cannot go on as this one: "
                f"{', '.join(differences)}; give what that run was given, or start afresh"
            )

    def _empty_scratch(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()

    def _clear(self) -> None:
        # run.json is the last to go: while it is there, the rest is known to be ours
        self._state.unlink(missing_ok=True)
        for folder in (self._frames, self.scratch):
            if folder.exists():
                shutil.rmtree(folder)
        self._run.unlink(missing_ok=True)

    def _write(self, path: Path, write: Callable[[BinaryIO], object]) -> None:
        """Write a file that appears under its name only when it is on the disk."""
        partial = self.scratch / path.name
        try:
            with partial.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            error.filename = error.filename or str(path)
            raise
        finally:
            partial.unlink(missing_ok=True)
        _sync(path.parent)


def _sync(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can do so."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def scheduler_memory(scheduler: Any) -> dict[str, Any]:
    """Return what a scheduler remembers from one step to the next: its plain attributes.

    Another scheduler of the same kind and timesteps, given it by `recall`, goes on from there.
    """
    return {name: value for name, value in vars(scheduler).items() if _is_plain(value)}


def recall(scheduler: Any, memory: Mapping[str, Any], latents: Tensor) -> None:
    """Give a scheduler its memory back; tensors shaped like the latents go where those are."""

    def beside(value: Any) -> Any:
        if type(value) in (list, tuple):
            return type(value)(map(beside, value))
        # the others, timesteps and noise levels, stay on the CPU
        return value.to(latents.device) if getattr(value, "shape", 0) == latents.shape else value

    vars(scheduler).update({name: beside(value) for name, value in memory.items()})


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return type(value) in (Tensor, bool, int, float, str, type(None))


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path}: what is kept is damaged; start afresh")
