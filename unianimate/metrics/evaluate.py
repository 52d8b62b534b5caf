"""`evaluate_videos`: every metric that can be computed, over a set of videos."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unianimate.pose import PoseSequence

from ._frames import Array, Bytes, resize_frames, to_bytes
from .bootstrap import Interval, bootstrap_mean
from .catalogue import METRICS
from .identity_color import identity_color_error
from .pixels import l1_disco, mae, moving_pixels, psnr, psnr_disco_legacy
from .pose_error import keypoint_error, keypoints_missed, pose_error
from .ssim import ssim, ssim_disco
from .temporal import warping_error

Progress = Callable[[int, int], None]

_NO_NETWORK = "the weights of its network were not given"
_WHY_MISSING = {
    **dict.fromkeys(("lpips", "lpips_disco", "fid_vid", "fvd"), _NO_NETWORK),
    "psnr_moving": "nothing moves in the true videos",
    "psnr_static": "everything moves in the true videos",
    "warping_error": "no two frames whose motion can be followed",
    "warping_error_truth": "no two frames whose motion can be followed",
    "pose_error": "the poses of the true videos were not given, or show no joint",
    "identity_color_error": "the poses of the true videos were not given, or show no joint",
    "keypoint_error": "poses found in the generated videos were not given, or share no point",
    "keypoints_missed": "poses found in the generated videos were not given",
}


@dataclass(frozen=True)
class Measure:
    """One figure over all videos.

    Args:
        mean: over all frames (pairs of frames) of all videos; or the distance of all clips.
        interval: percentile bootstrap over videos, (low, high); None for a single video.
        count: how many frames, pairs of frames or clips it is of.
        per_video: the mean of each video, NaN where it has none; empty for a figure that only a
            set of videos has.
    """

    mean: float
    interval: Interval | None
    count: int
    per_video: tuple[float, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """All that was measured, and what could not be.

    Args:
        measures: by the names of `METRICS`.
        missing: the other names of `METRICS`, each with the reason.
        videos: their names.
        num_frames: of each video.
        width: at which they were compared, that of each video, in pixels.
        height: likewise.
        level: of the intervals.
        protocol: its name, or "".
    """

    measures: dict[str, Measure]
    missing: dict[str, str]
    videos: tuple[str, ...]
    num_frames: tuple[int, ...]
    width: tuple[int, ...]
    height: tuple[int, ...]
    level: float
    protocol: str = ""

    def __getitem__(self, name: str) -> Measure:
        """Return a measure; KeyError says why there is none."""
        if name in self.missing:
            raise KeyError(f"{name}: {self.missing[name]}")
        return self.measures[name]


@dataclass
class _Tally:
    """The values of one metric, video by video."""

    means: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, values: Array) -> None:
        known = values[np.isfinite(values)]
        self.means.append(float(known.mean()) if len(known) else float("nan"))
        self.counts.append(len(known))

    def measure(self, **bootstrap: Any) -> Measure | None:
        counts = np.array(self.counts)
        there = counts > 0
        if not there.any():
            return None
        means = np.array(self.means)
        mean, interval = bootstrap_mean(means[there], counts[there], **bootstrap)
        return Measure(mean, interval, int(counts.sum()), tuple(self.means))


def evaluate_videos(
    generated: Sequence[ArrayLike],
    truth: Sequence[ArrayLike],
    *,
    poses: Sequence[PoseSequence] | None = None,
    found: Sequence[PoseSequence] | None = None,
    names: Sequence[str] | None = None,
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare generated videos with true ones by every metric that can be computed.

    Each video is (F, H, W, 3), uint8 or float in [0, 1]; a generated video of another size is
    stretched to its true one as DisCo's tool does. One pair is taken from the sequences at a
    time, so that they can read files when they are indexed.

    Args:
        generated: n videos; one array (n, F, H, W, 3) is a sequence of them.
        truth: n videos, with as many frames each.
        poses: in the true videos, for `pose_error` and `identity_color_error`.
        found: by a detector in the generated videos, for `keypoint_error` with ``poses``.
        names: of the videos; their numbers by default.
        level: of the bootstrap intervals.
        samples: of the bootstrap.
        seed: of the bootstrap.
        progress: called with how many videos are done, and how many there are.

    Returns:
        An `Evaluation`; a metric that could not be computed is under ``missing`` with the reason.

    Raises:
        ValueError: sequences or videos of different lengths, or frames that cannot be compared.

    Example:
        >>> done = evaluate_videos(made, real, poses=poses)
        >>> done["psnr"].mean, done["psnr"].interval
    """
    names = [str(index) for index in range(len(truth))] if names is None else list(names)
    _expect_lengths(len(truth), generated=generated, names=names, poses=poses, found=found)
    tallies = {name: _Tally() for name in METRICS}
    shapes = []
    for index in range(len(names)):
        pose = poses[index] if poses is not None else None
        seen = found[index] if found is not None else None
        made, real = _pair(generated[index], truth[index], names[index])
        shapes.append(real.shape)
        for name, values in _frame_values(made, real, pose, seen):
            tallies[name].add(values)
        if progress is not None:
            progress(index + 1, len(names))
    measures = {
        name: measure
        for name, tally in tallies.items()
        if (measure := tally.measure(level=level, samples=samples, seed=seed)) is not None
    }
    return Evaluation(
        measures=measures,
        missing={name: _WHY_MISSING[name] for name in METRICS if name not in measures},
        videos=tuple(names),
        num_frames=tuple(shape[0] for shape in shapes),
        width=tuple(shape[2] for shape in shapes),
        height=tuple(shape[1] for shape in shapes),
        level=level,
    )


def _frame_values(
    made: Bytes, real: Bytes, pose: PoseSequence | None, found: PoseSequence | None
) -> Iterator[tuple[str, Array]]:
    """Yield the name of each metric and its values, frame by frame, for one video."""
    moving = moving_pixels(real)
    yield "mae", mae(made, real)
    yield "l1_disco", l1_disco(made, real) * 1e4
    yield "psnr", psnr(made, real)
    yield "psnr_moving", psnr(made, real, mask=moving)
    yield "psnr_static", psnr(made, real, mask=~moving)
    yield "moving_share", np.full(len(real), moving.mean())
    yield "psnr_disco_legacy", psnr_disco_legacy(made, real)
    yield "ssim", ssim(made, real)
    yield "ssim_disco", ssim_disco(made, real)
    if len(real) > 1:
        yield "warping_error", warping_error(made, real)
        yield "warping_error_truth", warping_error(real, real)
    if pose is not None:
        yield "pose_error", pose_error(made, real, pose)
        yield "identity_color_error", identity_color_error(made, real, pose)
        if found is not None:
            yield "keypoint_error", keypoint_error(found, pose)
            yield "keypoints_missed", keypoints_missed(found, pose)


def _pair(generated: ArrayLike, truth: ArrayLike, name: str) -> tuple[Bytes, Bytes]:
    """Return one pair of videos as uint8 in the size of the true one."""
    real = to_bytes(truth, f"{name}: truth")
    made = np.asarray(generated)
    if len(made) != len(real):
        raise ValueError(
            f"{name}: {len(made)} generated and {len(real)} true frames; compare as many"
        )
    height, width = real.shape[1:3]
    return to_bytes(resize_frames(to_bytes(made, f"{name}: generated"), width, height)), real


def _expect_lengths(count: int, **others: Sequence[Any] | None) -> None:
    if not count:
        raise ValueError("evaluate_videos: there are no true videos; give at least one")
    for name, sequence in others.items():
        if sequence is not None and len(sequence) != count:
            raise ValueError(
                f"evaluate_videos: {count} true videos need as many {name}, got {len(sequence)}"
            )
