import tracemalloc

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from unianimate.metrics import (
    l1_disco,
    mae,
    moving_pixels,
    psnr,
    psnr_disco_legacy,
    ssim,
    ssim_disco,
    warping_error,
)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def grey(*levels):
    return np.stack([np.full((4, 6, 3), level, dtype=np.uint8) for level in levels])


def test_values_computed_by_hand():
    made, real = grey(10, 30), grey(30, 10)
    np.testing.assert_allclose(mae(made, real), [20, 20])
    np.testing.assert_allclose(l1_disco(made, real), [20 / 24, 20 / 24])
    np.testing.assert_allclose(psnr(made, real), 20 * np.log10(255 / 20))


def test_l1_of_disco_depends_on_the_size():
    made, real = grey(0), grey(17)
    wide = np.repeat(np.repeat(made, 2, axis=1), 2, axis=2), np.repeat(real.repeat(2, 1), 2, 2)
    assert l1_disco(*wide)[0] == pytest.approx(l1_disco(made, real)[0] / 4)
    assert mae(*wide)[0] == mae(made, real)[0]


def test_psnr_is_that_of_torchmetrics():
    made, real = noise(3, 8, 9, 3), noise(3, 8, 9, 3, seed=1)
    theirs = [
        peak_signal_noise_ratio(
            torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64), 255.0
        ).item()
        for a, b in zip(made, real)
    ]
    np.testing.assert_allclose(psnr(made, real), theirs, rtol=1e-7)


def test_float_frames_measure_as_bytes_do():
    made, real = noise(2, 5, 5, 3), noise(2, 5, 5, 3, seed=1)
    for metric in (mae, l1_disco, psnr, psnr_disco_legacy):
        np.testing.assert_allclose(metric(made / 255, real), metric(made, real), rtol=1e-12)
    np.testing.assert_allclose(
        psnr(torch.tensor(made / np.float32(255)), real), psnr(made, real), rtol=1e-6
    )


def test_equal_frames_are_capped_at_100():
    real = noise(2, 4, 4, 3)
    assert psnr(real, real).tolist() == psnr_disco_legacy(real, real).tolist() == [100, 100]


def test_the_legacy_psnr_wraps_modulo_256():
    # 16^2 is 0 in uint8, 20^2 is 400 - 256 = 144
    assert psnr_disco_legacy(grey(0), grey(16))[0] == 100
    assert psnr_disco_legacy(grey(20), grey(0))[0] == pytest.approx(10 * np.log10(255**2 / 144))


def test_the_legacy_psnr_gives_unrelated_pictures_27_9_db():
    squares = [(a - b) ** 2 % 256 for a in range(256) for b in range(256)]
    expected = 10 * np.log10(255**2 / np.mean(squares))
    assert round(expected, 2) == 27.90
    got = psnr_disco_legacy(noise(4, 256, 256, 3), noise(4, 256, 256, 3, seed=1))
    np.testing.assert_allclose(got, expected, atol=0.03)
    assert psnr(noise(1, 256, 256, 3), noise(1, 256, 256, 3, seed=1))[0] < 8


def test_psnr_over_moving_and_static_pixels():
    real = np.full((3, 4, 4, 3), 100, dtype=np.uint8)
    real[1, 0, 0, 2] = 117  # more than 16 levels in one channel
    real[2, 1, 1] = 116  # not more
    moving = moving_pixels(real)
    assert np.argwhere(moving).tolist() == [[0, 0]]
    made = real.copy()
    made[:, 0, 0] += 10
    made[:, 2, 2] += 40
    np.testing.assert_allclose(psnr(made, real, mask=moving), 20 * np.log10(255 / 10))
    static = psnr(made, real, mask=~moving)
    np.testing.assert_allclose(static, 10 * np.log10(255**2 / (40**2 / 15)))
    assert np.isnan(psnr(made, real, mask=np.zeros((4, 4), dtype=bool))).all()


def psnr_moving(made, real):
    return psnr(made, real, mask=moving_pixels(real))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    "metric", [mae, psnr, psnr_moving, psnr_disco_legacy, ssim, ssim_disco, warping_error]
)
def test_more_frames_take_no_more_memory(metric, dtype):
    def peak(frames):
        made, real = noise(frames, 32, 40, 3), noise(frames, 32, 40, 3, seed=1)
        if dtype != np.uint8:
            made, real = (video / dtype(255) for video in (made, real))
        tracemalloc.start()
        metric(made, real)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)  # what is imported, or cached, on the first call
    # 56 frames of bytes take 215 KB, and their values 0.4
    assert peak(64) - peak(8) < 20_000


@pytest.mark.parametrize("frames", [2, 7])
def test_values_frame_by_frame_are_those_of_all_frames_at_once(frames):
    random = np.random.default_rng(0)
    made, real = random.random((2, frames, 33, 41, 3))
    mask = random.random((33, 41)) < 0.4
    differences = made * 255 - real * 255
    np.testing.assert_array_equal(mae(made, real), np.abs(differences).mean(axis=(1, 2, 3)))
    squares = np.square(differences).mean(axis=3)
    for errors, got in (
        (squares.mean(axis=(1, 2)), psnr(made, real)),
        (squares[:, mask].mean(axis=1), psnr(made, real, mask=mask)),
    ):
        np.testing.assert_array_equal(got, 10 * np.log10(255.0**2 / errors))
    spread = np.ptp(real * 255, axis=0).max(axis=2)
    for threshold in (100, 200):
        moving = moving_pixels(real, threshold=threshold)
        np.testing.assert_array_equal(moving, spread > threshold)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (np.zeros((4, 4, 3), np.uint8), "(F, H, W, 3)"),
        (np.zeros((0, 4, 4, 3), np.uint8), "at least 1"),
        (np.zeros((1, 4, 4, 3), np.int64), "uint8, or float"),
        (np.full((1, 4, 4, 3), 255.0), "in [0, 1], got 255"),
        (np.full((1, 4, 4, 3), np.nan), "in [0, 1], got nan"),
        (np.zeros((1, 4, 5, 3), np.uint8), "one shape"),
    ],
)
def test_bad_frames_are_refused_in_a_sentence(made, says):
    with pytest.raises(ValueError) as error:
        psnr(made, np.zeros((1, 4, 4, 3), np.uint8))
    assert says in str(error.value)


def test_a_wrong_mask_is_refused():
    real = noise(1, 4, 4, 3)
    with pytest.raises(ValueError, match="mask must be bool"):
        psnr(real, real, mask=np.ones((4, 5), dtype=bool))
