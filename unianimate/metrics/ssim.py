"""Structural similarity (Wang et al. 2004): the standard form, and the one of DisCo's tool."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ._frames import Array, Frames, expect_pair, to_bytes, to_levels

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_GAUSSIAN, _SIGMA = 11, 1.5
_BOX = 7


def ssim(generated: ArrayLike, truth: ArrayLike) -> Array:
    """Return the standard SSIM of every frame (F,).

    Gaussian window 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, on each colour channel, the mean
    over channels and over all places where the window fits.

    Args:
        generated: (F, H, W, 3), uint8 or float in [0, 1], at least 11 x 11 pixels.
        truth: likewise, of the same shape.

    Raises:
        ValueError: shapes that differ, another dtype or range, or frames that are too small.
    """
    import cv2

    def mean(image: Array) -> Array:
        return _inside(cv2.GaussianBlur(image, (_GAUSSIAN, _GAUSSIAN), _SIGMA), _GAUSSIAN)

    made, real = expect_pair(generated, truth)
    _expect_size(real.shape, _GAUSSIAN, "ssim")
    return np.array(
        [_similarity(to_levels(a), to_levels(b), mean, 1.0) for a, b in zip(made, real)]
    )


def ssim_disco(generated: ArrayLike, truth: ArrayLike) -> Array:
    """Return SSIM (F,) as DisCo's tool has it from scikit-image.

    On 8-bit grey pictures (cv2's RGB to grey), uniform window 7 x 7, sample covariance
    (divided by n - 1). Arguments as for `ssim`, at least 7 x 7 pixels.
    """
    import cv2

    def mean(image: Array) -> Array:
        return _inside(cv2.blur(image, (_BOX, _BOX)), _BOX)

    def grey(frame: Frames) -> Array:
        return np.asarray(cv2.cvtColor(to_bytes(frame), cv2.COLOR_RGB2GRAY), np.float64)

    made, real = expect_pair(generated, truth)
    _expect_size(real.shape, _BOX, "ssim_disco")
    sample = _BOX**2 / (_BOX**2 - 1)
    return np.array([_similarity(grey(a), grey(b), mean, sample) for a, b in zip(made, real)])


def _similarity(x: Array, y: Array, mean: Callable[[Array], Array], sample: float) -> float:
    """Return the mean over all windows; ``mean`` filters, ``sample`` scales the covariances."""
    mean_x, mean_y = mean(x), mean(y)
    variances = sample * (mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2)
    covariance = sample * (mean(x * y) - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (variances + _C2)
    return float((luminance * structure).mean())


def _inside(filtered: Array, window: int) -> Array:
    margin = window // 2
    return filtered[margin:-margin, margin:-margin]


def _expect_size(shape: tuple[int, ...], window: int, name: str) -> None:
    if min(shape[1:3]) < window:
        raise ValueError(
            f"{name}: frames must be at least {window} x {window} pixels, got "
            f"{shape[2]} x {shape[1]}"
        )
