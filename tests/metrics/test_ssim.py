import cv2
import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from unianimate.metrics import ssim, ssim_disco


def pair(height=20, width=17, frames=2):
    random = np.random.default_rng(0)
    real = random.integers(0, 256, (frames, height, width, 3)).astype(np.uint8)
    made = np.clip(real + random.normal(0, 30, real.shape), 0, 255).astype(np.uint8)
    return made, real


def scikit_image(x, y):
    """Its structural_similarity with defaults for uint8 grey, window by window."""
    values = []
    for row in range(x.shape[0] - 6):
        for column in range(x.shape[1] - 6):
            a = x[row : row + 7, column : column + 7].astype(float).ravel()
            b = y[row : row + 7, column : column + 7].astype(float).ravel()
            (va, covariance), (_, vb) = np.cov(a, b, ddof=1)
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            values.append(
                (2 * a.mean() * b.mean() + c1)
                * (2 * covariance + c2)
                / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (va + vb + c2))
            )
    return np.mean(values)


def test_the_form_of_disco_is_scikit_images_on_grey_pictures():
    made, real = pair()
    theirs = [
        scikit_image(*(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in (a, b)))
        for a, b in zip(made[..., ::-1], real[..., ::-1])
    ]
    np.testing.assert_allclose(ssim_disco(made, real), theirs, rtol=1e-9)


def test_the_standard_form_is_that_of_torchmetrics():
    made, real = pair()
    a, b = (torch.tensor(video, dtype=torch.float64).permute(0, 3, 1, 2) for video in (made, real))
    _, places = structural_similarity_index_measure(
        a, b, data_range=255.0, reduction="none", return_full_image=True
    )
    # it mirrors the border, where Wang et al. stop
    theirs = places[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
    np.testing.assert_allclose(ssim(made, real), theirs.numpy(), rtol=1e-9)


def test_black_against_white_is_known():
    black, white = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 16, 16, 3), 255, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(black, white)[0] == pytest.approx(c1 / (255**2 + c1))
    assert ssim_disco(black, white)[0] == pytest.approx(c1 / (255**2 + c1))


@pytest.mark.parametrize(("metric", "window"), [(ssim, 11), (ssim_disco, 7)])
def test_equal_frames_are_1_and_tiny_ones_refused(metric, window):
    _, real = pair(height=window, width=window)
    np.testing.assert_allclose(metric(real, real), 1)
    with pytest.raises(ValueError, match=f"at least {window} x {window}"):
        metric(real[:, 1:], real[:, 1:])
