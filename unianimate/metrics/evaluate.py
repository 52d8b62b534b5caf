"""`evaluate_videos`: every metric that can be computed, over a set of videos."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unianimate.pose import PoseSequence

from ._frames import Array, Bytes, resize_frames, video_to_bytes
from .bootstrap import Interval, bootstrap_interval, bootstrap_mean, expect_bootstrap
from .catalogue import METRICS
from .clip_networks import ClipNetwork, zeros_against_ones
from .frechet import frechet_distance
from .identity_color import identity_color_error
from .lpips import LPIPSNetwork, lpips, lpips_disco
from .pixels import l1_disco, mae, moving_pixels, psnr, psnr_disco_legacy
from .pose_error import keypoint_error, keypoints_missed, pose_error
from .protocols import AS_GIVEN, Protocol
from .ssim import ssim, ssim_disco
from .temporal import warping_error

Progress = Callable[[int, int], None]

# a distance of clips takes a second or so, and is drawn anew no more often than this
_MOST_DISTANCES = 100

_WHY_MISSING = {
    "lpips": "the weights of VGG16 were not given (--lpips-vgg)",
    "lpips_disco": "the weights of VGG16 were not given (--lpips-vgg)",
    "fid_vid": "a 3-D ResNet-50 was not given (--fid-vid-network)",
    "fvd": "an I3D was not given (--fvd-network)",
    "fvd_zeros_against_ones": "an I3D was not given (--fvd-network)",
    "psnr_moving": "nothing moves in the true videos",
    "psnr_static": "everything moves in the true videos",
    "warping_error": "no two frames whose motion can be followed",
    "warping_error_truth": "no two frames whose motion can be followed",
    "pose_error": "poses of the true videos were not given (--poses), or show no joint",
    "identity_color_error": "poses of the true videos were not given (--poses), or show no joint",
    "keypoint_error": "poses of both videos were not given (--found-poses, --poses), or share none",
    "keypoints_missed": "poses of both videos were not given (--found-poses, --poses), or show no "
    "joint",
}

# of a video that has nothing to be measured
_NONE = np.full(1, np.nan)


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


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The networks that need weights, which the user brings; None leaves their metrics out."""

    lpips: LPIPSNetwork | None = None
    fvd: ClipNetwork | None = None
    fid_vid: ClipNetwork | None = None


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
        protocol: its name.
    """

    measures: dict[str, Measure]
    missing: dict[str, str]
    videos: tuple[str, ...]
    num_frames: tuple[int, ...]
    width: tuple[int, ...]
    height: tuple[int, ...]
    level: float
    protocol: str

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


class _Clips:
    """The features of all clips, video by video, by one network."""

    def __init__(self, network: ClipNetwork, protocol: Protocol) -> None:
        self._network = network
        self._frames, self._stride = protocol.clip_frames, protocol.clip_stride
        self._made: list[Array] = []
        self._real: list[Array] = []

    def add(self, made: Bytes, real: Bytes) -> None:
        for features, video in ((self._made, made), (self._real, real)):
            features.append(self._network.features(video, frames=self._frames, stride=self._stride))

    def measure(self, *, level: float, samples: int, seed: int) -> Measure | None:
        count = sum(map(len, self._made))
        if count < 2:
            return None
        interval = bootstrap_interval(
            self._distance,
            len(self._made),
            level=level,
            samples=min(samples, _MOST_DISTANCES),
            seed=seed,
            centred=True,
        )
        everything = np.arange(len(self._made))
        return Measure(self._distance(everything), interval, count)

    def _distance(self, videos: NDArray[np.int64]) -> float:
        made, real = (
            np.concatenate([features[video] for video in videos])
            for features in (self._made, self._real)
        )
        return frechet_distance(made, real)


def evaluate_videos(
    generated: Sequence[ArrayLike],
    truth: Sequence[ArrayLike],
    *,
    poses: Sequence[PoseSequence] | None = None,
    found: Sequence[PoseSequence] | None = None,
    networks: Networks = Networks(),
    protocol: Protocol = AS_GIVEN,
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
        networks: for LPIPS, FVD and FID-VID.
        protocol: the size at which videos are compared, and how clips are cut.
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
    expect_bootstrap(level, samples)
    names = [str(index) for index in range(len(truth))] if names is None else list(names)
    _expect_lengths(len(truth), generated=generated, names=names, poses=poses, found=found)
    tallies = {name: _Tally() for name in METRICS}
    clips = {
        name: _Clips(network, protocol)
        for name, network in (("fid_vid", networks.fid_vid), ("fvd", networks.fvd))
        if network is not None
    }
    reasons = _WHY_MISSING | dict.fromkeys(clips, "one clip has no covariance: give more videos")
    checked = None if networks.fvd is None else _check(networks.fvd, reasons)
    shapes = []
    for index, name in enumerate(names):
        made, real = _pair(generated[index], truth[index], protocol, name)
        pose = poses[index] if poses is not None else None
        seen = found[index] if found is not None else None
        try:
            for metric, values in _frame_values(made, real, pose, seen, networks.lpips):
                tallies[metric].add(values)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if len(real) < protocol.clip_frames:
            # a distance of the other videos would be another figure
            short = f"video {name} has {len(real)} frames and a clip {protocol.clip_frames}"
            reasons |= dict.fromkeys(clips, f"{short}; leave it out, or give a longer one")
            clips.clear()
        for features in clips.values():
            features.add(made, real)
        shapes.append(real.shape)
        if progress is not None:
            progress(index + 1, len(names))
    options: dict[str, Any] = {"level": level, "samples": samples, "seed": seed}
    figures = {name: tally.measure(**options) for name, tally in tallies.items()}
    figures |= {name: features.measure(**options) for name, features in clips.items()}
    figures["fvd_zeros_against_ones"] = checked
    return Evaluation(
        measures={name: figure for name, figure in figures.items() if figure is not None},
        missing={name: reasons[name] for name in METRICS if figures[name] is None},
        videos=tuple(names),
        num_frames=tuple(shape[0] for shape in shapes),
        width=tuple(shape[2] for shape in shapes),
        height=tuple(shape[1] for shape in shapes),
        level=level,
        protocol=protocol.name,
    )


def _check(network: ClipNetwork, reasons: dict[str, str]) -> Measure | None:
    """Check an I3D by what it makes of black and white; say so if it takes no such clips."""
    try:
        return Measure(zeros_against_ones(network), None, 2)
    except ValueError as error:
        reasons["fvd_zeros_against_ones"] = str(error)
        return None


def _frame_values(
    made: Bytes,
    real: Bytes,
    pose: PoseSequence | None,
    found: PoseSequence | None,
    network: LPIPSNetwork | None,
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
    if network is not None:
        yield "lpips", lpips(made, real, network)
        yield "lpips_disco", lpips_disco(made, real, network)
    pairs = len(real) > 1
    yield "warping_error", warping_error(made, real) if pairs else _NONE
    yield "warping_error_truth", warping_error(real, real) if pairs else _NONE
    if pose is not None:
        yield "pose_error", pose_error(made, real, pose)
        yield "identity_color_error", identity_color_error(made, real, pose)
        if found is not None:
            yield "keypoint_error", keypoint_error(found, pose, (real.shape[2], real.shape[1]))
            yield "keypoints_missed", keypoints_missed(found, pose)


def _pair(
    generated: ArrayLike, truth: ArrayLike, protocol: Protocol, name: str
) -> tuple[Bytes, Bytes]:
    """Return one pair of videos as uint8, in the protocol's size or that of the true one."""
    made = video_to_bytes(generated, f"{name}: generated")
    real = video_to_bytes(truth, f"{name}: truth")
    if len(made) != len(real):
        raise ValueError(
            f"{name}: {len(made)} generated and {len(real)} true frames; compare as many"
        )
    width, height = protocol.width or real.shape[2], protocol.height or real.shape[1]
    return resize_frames(made, width, height), resize_frames(real, width, height)


def _expect_lengths(count: int, **others: Sequence[Any] | None) -> None:
    if not count:
        raise ValueError("evaluate_videos: there are no true videos; give at least one")
    for name, sequence in others.items():
        if sequence is not None and len(sequence) != count:
            raise ValueError(
                f"evaluate_videos: {count} true videos need as many {name}, got {len(sequence)}"
            )
