import numpy as np
import pytest

from unianimate.metrics import warping_error


@pytest.fixture(scope="module")
def panning():
    """Smooth texture that moves right by two pixels a frame: its warping error is known."""
    import cv2

    random = np.random.default_rng(0).uniform(0, 255, (80, 140, 3))
    texture = cv2.GaussianBlur(random, (0, 0), 3)
    low, high = texture.min(), texture.max()
    texture = ((texture - low) * 255 / (high - low)).astype(np.uint8)
    return np.stack([texture[:, 20 - 2 * t : 120 - 2 * t] for t in range(5)])


def test_true_motion_costs_next_to_nothing(panning):
    still = np.repeat(panning[:1], 5, axis=0)
    floor = warping_error(panning, panning)
    assert floor.shape == (4,)
    assert floor.max() < 1
    # a still picture is wrong by what two pixels change in it
    change = np.abs(still[0, :, 2:].astype(float) - still[0, :, :-2]).mean()
    np.testing.assert_allclose(warping_error(still, panning), change, rtol=0.1)


def test_flicker_costs_what_it_changes_and_a_steady_tint_nothing(panning):
    dim = (panning * 0.7).astype(np.uint8)
    flicker = dim + np.array([0, 12, 0, 12, 0], np.uint8)[:, None, None, None]
    assert warping_error(dim, panning).max() < 1
    np.testing.assert_allclose(warping_error(flicker, panning), 12, atol=1)


def test_it_is_the_motion_of_the_true_video_that_counts(panning):
    backwards = panning[::-1]
    assert warping_error(backwards, panning).min() > 4 * warping_error(panning, panning).max()


def test_a_cut_is_trusted_little_and_one_frame_refused(panning):
    with pytest.raises(ValueError, match="at least 2 frames"):
        warping_error(panning[:1], panning[:1])
    with pytest.raises(ValueError, match="at least 16 x 16"):
        warping_error(panning[:, :8], panning[:, :8])
