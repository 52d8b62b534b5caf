"""How a video longer than what the network sees at once is made: one class a way.

Each cuts the video into segments that are denoised one after the other; `make_video` makes them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .checkpoint import SamplerState, Store
from .windows import plan_windows


@dataclass(frozen=True)
class Segment:
    """Frames that are denoised together.

    Args:
        frames: of the video. Those that the segment before made too are not taken from this one.
        prior_timestep: how much of the reference is in the start noise, see `UnifiedNoise`.
        offset_inside: where the offset noise is added, likewise.
        windows: indices into ``frames`` that the network sees at once; None is all of them.
    """

    frames: range
    prior_timestep: int
    offset_inside: bool
    windows: Sequence[Sequence[int]] | None = None


class LongVideo(Protocol):
    """A way of making videos of any length."""

    def segments(self, num_frames: int) -> Sequence[Segment]:
        """Return the segments of a video, in the order in which they are made."""
        ...


@dataclass(frozen=True)
class Single:
    """All frames in one pass: memory grows with the length, the time of attention faster."""

    def segments(self, num_frames: int) -> Sequence[Segment]:
        """Return one segment."""
        return [Segment(range(num_frames), prior_timestep=949, offset_inside=True)]


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

    def segments(self, num_frames: int) -> Sequence[Segment]:
        """Return one segment of many windows."""
        windows = plan_windows(num_frames, self.size, self.overlap)
        return [Segment(range(num_frames), 939, offset_inside=False, windows=windows)]


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

    def segments(self, num_frames: int) -> Sequence[Segment]:
        """Return segments that share one frame with the next."""
        starts = range(0, max(num_frames - 1, 1), self.size - 1)
        return [
            Segment(range(start, min(start + self.size, num_frames)), 949, offset_inside=True)
            for start in starts
        ]


class Job(Protocol):
    """What `make_video` asks for; `AnimatePipeline` provides it."""

    def sample(
        self, number: int, segment: Segment, first_frame: Tensor | None, state: SamplerState | None
    ) -> Tensor:
        """Return clean latents (1, C, F, h, w) of a segment.

        Args:
            number: of the segment.
            segment: its frames.
            first_frame: (3, H, W) in [0, 1], the picture to start from.
            state: where to go on; None starts from noise.
        """
        ...

    def decode(self, latents: Tensor, start: int) -> Iterator[tuple[int, Tensor]]:
        """Yield index and picture (3, H, W) in [0, 1] of the frames from ``start`` on.

        It may begin earlier: a picture must not depend on where decoding began.
        """
        ...


def make_video(job: Job, segments: Sequence[Segment], store: Store) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames, uint8 RGB (H, W, 3), as soon as they are final; first what is kept.

    Args:
        job: does the work.
        segments: of the whole video.
        store: keeps states and frames, and has those of an interrupted run.

    Raises:
        ValueError: the store has a state of a later segment than its frames lead to.
    """
    made = 0
    for frame in store.frames():
        yield frame
        made += 1
    state = store.load()
    before = 0 if state is None or state.segment == 0 else segments[state.segment - 1].frames.stop
    if made < before:
        raise ValueError(f"what is kept has lost frames {made} to {before - 1}; start afresh")
    first_frame = None if state is None else state.first_frame
    for number, segment in enumerate(segments):
        if state is not None and number < state.segment:
            continue
        latents = job.sample(number, segment, first_frame, state)
        state = None
        start = segment.frames.start
        # the last picture is needed even where it is kept: the next segment starts from it
        wanted = min(made - start, len(segment.frames) - 1)
        for index, picture in job.decode(latents, wanted):
            if start + index == made:
                # the official code truncates
                frame = (picture * 255).byte().permute(1, 2, 0).cpu().numpy()
                store.keep_frame(made, frame)
                made += 1
                yield frame
            first_frame = picture
