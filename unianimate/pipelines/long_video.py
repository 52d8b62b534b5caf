"""How a video longer than what the network sees at once is made: one class a way.

Each yields decoded pictures (3, H, W) in [0, 1], in order, as soon as they are final.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .windows import plan_windows


class Job(Protocol):
    """What a way of making long videos may ask for; `AnimatePipeline` provides it."""

    num_frames: int

    def start(self, num_frames: int, *, prior_timestep: int, offset_inside: bool) -> Tensor:
        """Draw start noise (1, C, F, h, w)."""
        ...

    def sample(
        self,
        noise: Tensor,
        frames: Sequence[int],
        *,
        windows: Sequence[Sequence[int]] | None = None,
        first_frame: Tensor | None = None,
    ) -> Tensor:
        """Denoise to latents (1, C, F, h, w) of these frames of the video."""
        ...

    def decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Yield pictures (3, H, W) in [0, 1]."""
        ...


class LongVideo(Protocol):
    """A way of making videos of any length."""

    def pictures(self, job: Job) -> Iterator[Tensor]:
        """Yield the pictures of the whole video."""
        ...


@dataclass(frozen=True)
class Single:
    """All frames in one pass: memory grows with the length; what Mamba mixers are for."""

    def pictures(self, job: Job) -> Iterator[Tensor]:
        """Yield the pictures of the whole video."""
        noise = job.start(job.num_frames, prior_timestep=949, offset_inside=True)
        yield from job.decode(job.sample(noise, range(job.num_frames)))


@dataclass(frozen=True)
class Window:
    """Overlapping windows whose predictions are averaged at every step, as the official system.

    Keeps the latents of the whole video and nothing else that grows with it.

    Args:
        size: frames a window.
        overlap: frames that neighbouring windows share.
    """

    size: int
    overlap: int

    def pictures(self, job: Job) -> Iterator[Tensor]:
        """Yield the pictures of the whole video."""
        noise = job.start(job.num_frames, prior_timestep=939, offset_inside=False)
        windows = plan_windows(job.num_frames, self.size, self.overlap)
        yield from job.decode(job.sample(noise, range(job.num_frames), windows=windows))


@dataclass(frozen=True)
class Chain:
    """Segment after segment, each started by the last picture of the one before (the paper).

    Segment k + 1 covers the poses from the last frame of segment k on; its first picture repeats
    that frame and is dropped.

    Args:
        size: frames a segment, at least 2.
    """

    size: int

    def __post_init__(self) -> None:
        """Check that segments advance."""
        if self.size < 2:
            raise ValueError(f"Chain: a segment needs at least 2 frames, got {self.size}")

    def pictures(self, job: Job) -> Iterator[Tensor]:
        """Yield the pictures of the whole video."""
        first_frame: Tensor | None = None
        start = 0
        while start == 0 or start < job.num_frames - 1:
            frames = range(start, min(start + self.size, job.num_frames))
            noise = job.start(len(frames), prior_timestep=949, offset_inside=True)
            latents = job.sample(noise, frames, first_frame=first_frame)
            repeated = first_frame is not None
            for picture in job.decode(latents):
                if not repeated:
                    yield picture
                repeated = False
                first_frame = picture
            start += self.size - 1
