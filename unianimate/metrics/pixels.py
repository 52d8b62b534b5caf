"""Differences of pixels: L1 in both definitions, PSNR, and the PSNR of older papers."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._frames import Array, Frames, expect_pair, expect_video, to_bytes, to_levels

# DisCo's value for equal pictures, in dB
PSNR_CAP = 100.0


def mae(generated: ArrayLike, truth: ArrayLike) -> Array:
    """Return the mean absolute error of every frame (F,), in grey levels (0 to 255).

    Args:
        generated: (F, H, W, 3), uint8 or float in [0, 1].
        truth: likewise, of the same shape.
    """
    made, real = expect_pair(generated, truth)
    return np.array([np.abs(to_levels(a) - to_levels(b)).mean() for a, b in zip(made, real)])


def l1_disco(generated: ArrayLike, truth: ArrayLike) -> Array:
    """Return DisCo's L1 of every frame (F,): `mae` divided by H * W.

    Its tool divides by the number of pixels and then takes the mean over them again. The value
    depends on the size: at 256 x 256, 2.66e-4 are 17.4 grey levels.
    """
    errors = mae(generated, truth)
    height, width = np.shape(truth)[1:3]
    return np.asarray(errors / (height * width))


def psnr(generated: ArrayLike, truth: ArrayLike, *, mask: NDArray[np.bool_] | None = None) -> Array:
    """Return the peak signal-to-noise ratio of every frame (F,), in dB.

    10 log10(255^2 / MSE), the mean over pixels and channels in float64. Papers that follow
    DisCo's corrected tool call it PSNR*. Equal frames give 100, as there.

    Args:
        generated: (F, H, W, 3), uint8 or float in [0, 1].
        truth: likewise, of the same shape.
        mask: (H, W), which pixels count; all by default. See `moving_pixels`.

    Returns:
        (F,); NaN where the mask selects no pixel.

    Raises:
        ValueError: shapes that differ, another dtype or range.
    """
    made, real = expect_pair(generated, truth)
    if mask is None:
        return _decibels(np.array([_squares(a, b).mean() for a, b in zip(made, real)]))
    size = real.shape[1:3]
    if mask.shape != size or mask.dtype != np.bool_:
        raise ValueError(f"psnr: mask must be bool {size}, got {mask.dtype} {mask.shape}")
    count = np.count_nonzero(mask)
    if not count:
        return np.full(len(real), np.nan)
    # one by one: the order of a sum over all frames at once, and so its last bit
    sums = [_squares(a, b)[mask].cumsum()[-1] for a, b in zip(made, real)]
    return _decibels(np.array(sums) / count)


def psnr_disco_legacy(generated: ArrayLike, truth: ArrayLike) -> Array:
    """Return the PSNR (F,) that DisCo's tool first computed, to read older tables with.

    It subtracts and squares in uint8, so that both wrap modulo 256: two unrelated pictures get
    27.90 dB in expectation (the mean of d^2 mod 256 is 105.5), and values of 28 to 31 dB say
    little. Use `psnr` for everything else.
    """
    made, real = expect_pair(generated, truth)
    errors = [np.square(to_bytes(a) - to_bytes(b)).mean() for a, b in zip(made, real)]
    return _decibels(np.array(errors))


def moving_pixels(truth: ArrayLike, *, threshold: float = 16.0) -> NDArray[np.bool_]:
    """Return which pixels (H, W) of a true video move.

    A pixel moves if one of its channels varies by more than ``threshold`` grey levels between
    any two frames. A copy of one frame is right everywhere else.
    """
    frames = expect_video(truth, "truth")
    # levels keep the order of values, so that only the extremes need to be converted
    spread = to_levels(frames.max(axis=0)) - to_levels(frames.min(axis=0))
    return np.asarray(spread.max(axis=2) > threshold)


def _squares(made: Frames, real: Frames) -> Array:
    """Return the squared differences (H, W) of two frames, mean over channels."""
    return np.asarray(np.square(to_levels(made) - to_levels(real)).mean(axis=2))


def _decibels(mse: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.where(mse == 0, PSNR_CAP, 10 * np.log10(255.0**2 / mse))
