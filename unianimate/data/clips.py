"""Training clips: which frames of which video, as a pure function of a seed and a number."""

import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

Pictures = NDArray[np.uint8]


class BrokenVideoError(ValueError):
    """A video, or its poses, cannot be read; training goes on without it."""


class VideoSet(Protocol):
    """Videos of one size with the drawn pose of every frame."""

    def __len__(self) -> int:
        """How many videos there are."""
        ...

    def num_frames(self, index: int) -> int:
        """Return how many frames a video has; raises `BrokenVideoError`."""
        ...

    def read(self, index: int, frames: Sequence[int]) -> tuple[Pictures, Pictures]:
        """Return frames and their pose pictures, each uint8 RGB (n, H, W, 3), in the order asked.

        Raises:
            BrokenVideoError: they cannot be read.
        """
        ...


class Clip(NamedTuple):
    """One example: F frames in a row with their poses, and a reference from the same video."""

    frames: Pictures  # (F, H, W, 3)
    poses: Pictures  # (F, H, W, 3)
    reference: Pictures  # (H, W, 3)
    reference_pose: Pictures  # (H, W, 3)
    video: int
    numbers: tuple[int, ...]  # of the frames in the video, then the reference's


class ClipRequest(NamedTuple):
    """Example number `number` of a run, `num_frames` frames long."""

    number: int
    num_frames: int


@dataclass(frozen=True)
class ClipDataset:
    """Draw clips from videos; example n of a run depends on the seed and n, and nothing else.

    So any worker can make any example, and a run resumes exactly by going on with the next number.
    Every epoch is a permutation of the videos. A broken video is reported once and replaced by
    another.

    Args:
        videos: where they come from.
        seed: of every choice.
        strides: steps between frames to choose from; longer ones are left out for short videos.
        reversal: probability that a clip runs backwards.
    """

    videos: VideoSet
    seed: int = 0
    strides: tuple[int, ...] = (1, 2)
    reversal: float = 0.0

    def __getitem__(self, request: ClipRequest) -> Clip:
        """Return an example.

        Raises:
            ValueError: no video can be read, or none is as long as asked.
        """
        number, num_frames = request
        epoch, position = divmod(number, len(self.videos))
        order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.videos))
        random = np.random.default_rng((self.seed, 1, number))
        for video in np.roll(order, -position):
            try:
                clip = self._draw(int(video), num_frames, random)
            except BrokenVideoError as error:
                _report(str(error))
                continue
            if clip is not None:
                return clip
        raise ValueError(
            f"none of the {len(self.videos)} videos can be read and has {num_frames} frames "
            f"{min(self.strides)} apart: take shorter clips or strides, or longer videos"
        )

    def _draw(self, video: int, num_frames: int, random: np.random.Generator) -> Clip | None:
        length = self.videos.num_frames(video)
        strides = [s for s in self.strides if (num_frames - 1) * s < length]
        if not strides:
            return None
        stride = int(random.choice(strides))
        start = int(random.integers(length - (num_frames - 1) * stride))
        numbers = [start + i * stride for i in range(num_frames)]
        if random.random() < self.reversal:
            numbers.reverse()
        numbers.append(int(random.integers(length)))
        frames, poses = self.videos.read(video, numbers)
        return Clip(frames[:-1], poses[:-1], frames[-1], poses[-1], video, tuple(numbers))


@dataclass(frozen=True)
class ClipBatches:
    """The examples of every step, as lists of requests: a batch sampler for a `DataLoader`.

    All clips of a step are of one length, drawn from `lengths` by the seed and the step.

    Args:
        batch_size: clips a step, over all processes.
        lengths: frames a clip to choose from, uniformly.
        start: the first step.
        stop: the step after the last.
        seed: of the choice.
        rank: which of the processes asks; it gets every `world_size`-th clip of the step.
        world_size: how many there are; must divide `batch_size`.

    Raises:
        ValueError: it does not, or there are no lengths to choose from.
    """

    batch_size: int
    lengths: tuple[int, ...]
    start: int
    stop: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        """Check what would give the processes different numbers of clips."""
        if self.batch_size < 1 or self.batch_size % self.world_size:
            raise ValueError(
                f"ClipBatches: batch_size must be a multiple of the {self.world_size} processes, "
                f"got {self.batch_size}"
            )
        if not self.lengths:
            raise ValueError("ClipBatches: lengths is empty; give one or more, as (16, 32)")

    def __len__(self) -> int:
        """How many steps there are."""
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[ClipRequest]]:
        """Yield what this process needs for each step."""
        for step in range(self.start, self.stop):
            length = int(np.random.default_rng((self.seed, 2, step)).choice(self.lengths))
            first = step * self.batch_size
            yield [
                ClipRequest(number, length)
                for number in range(first + self.rank, first + self.batch_size, self.world_size)
            ]


@functools.cache
def _report(message: str) -> None:
    """Log a message, once a process."""
    _log.warning("skipped: %s", message)
