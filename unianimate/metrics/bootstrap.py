"""Bootstrap intervals: how much a figure would change with other videos."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]


def bootstrap_mean(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, Interval | None]:
    """Return the mean of one value a video, and its percentile bootstrap interval.

    Videos are drawn anew with replacement, not frames: frames of one video are nearly copies of
    each other, and would make the interval far too narrow.

    Args:
        values: (n,).
        weights: (n,), as the number of frames of each video; equal by default.
        level: of the interval.
        samples: how often the videos are drawn.
        seed: of the draws.

    Returns:
        The mean, and (low, high), or None for a single video.

    Raises:
        ValueError: no values, weights of another shape or not positive, or ``level`` or
            ``samples`` out of range.
    """
    expect_bootstrap(level, samples)
    figures = np.asarray(values, dtype=np.float64)
    if figures.ndim != 1 or not len(figures):
        raise ValueError(f"bootstrap_mean: values must be (n,), n at least 1, got {figures.shape}")
    counts = np.ones_like(figures) if weights is None else np.asarray(weights, dtype=np.float64)
    if counts.shape != figures.shape or not (counts > 0).all():
        raise ValueError(
            f"bootstrap_mean: weights must be {figures.shape} and positive, got {counts.shape}"
        )
    mean = float(np.average(figures, weights=counts))
    if len(figures) < 2:
        return mean, None
    drawn = _draw(len(figures), samples, seed)
    means = (figures * counts)[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return mean, _percentiles(means, level)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    count: int,
    *,
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
    centred: bool = False,
) -> Interval | None:
    """Return the percentile interval of a statistic of ``count`` videos; None below two.

    Args:
        statistic: the figure for videos drawn by their indices, which repeat.
        count: how many videos there are.
        level: of the interval, within (0, 1).
        samples: how often the videos are drawn.
        seed: of the draws.
        centred: move the draws so that their mean is the statistic of all videos. For a distance
            between sets: videos drawn twice make it larger, and leave it outside its own interval.

    Raises:
        ValueError: ``level`` or ``samples`` out of range.
    """
    expect_bootstrap(level, samples)
    if count < 2:
        return None
    figures = np.array([statistic(videos) for videos in _draw(count, samples, seed)])
    if centred:
        figures += statistic(np.arange(count)) - figures.mean()
    return _percentiles(figures, level)


def expect_bootstrap(level: float, samples: int) -> None:
    """Refuse options that no interval can be made with.

    Raises:
        ValueError: ``level`` or ``samples`` out of range.
    """
    if samples < 1:
        raise ValueError(f"bootstrap: samples must be 1 or more, got {samples}")
    if not 0 < level < 1:
        raise ValueError(f"bootstrap: level must be within (0, 1), got {level}")


def _draw(count: int, samples: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(count, size=(samples, count))


def _percentiles(figures: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
