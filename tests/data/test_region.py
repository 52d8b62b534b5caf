import numpy as np
import pytest
from PIL import Image
from poses import random_pose

from unianimate.data import fit_picture
from unianimate.data.region import Region, training_region


def picture(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


@pytest.mark.parametrize("size", [(96, 160), (150, 100), (64, 64), (97, 61), (128, 128)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_the_region_is_what_fit_picture_shows(size, fit):
    region = training_region(*size, 64, 48, fit=fit)
    cut = region.cut(picture(*size), 64, 48)
    wanted = np.asarray(fit_picture(picture(*size), 64, 48, fit), dtype=int)
    assert np.abs(np.asarray(cut) - wanted).max() <= 1
    if fit == "stretch":
        assert region == Region()


def test_any_size_gives_a_region_inside():
    random = np.random.default_rng(1)
    for width, height, target_width, target_height in random.integers(1, 900, (500, 4)).tolist():
        left, top, right, bottom = training_region(
            width, height, target_width, target_height, enlarge=True
        )
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
        assert min(left, top) == pytest.approx(0, abs=1e-12)
        shown = (right - left) * width / ((bottom - top) * height)
        assert shown == pytest.approx(target_width / target_height)


def test_poses_move_with_the_picture():
    region = training_region(200, 100, 50, 50)
    assert region == (0.25, 0, 0.75, 1)
    pose = random_pose(3, 200, 100)
    pose.bodies[1, 4] = -1.0
    placed = region.place(pose)
    assert (placed.width, placed.height, len(placed)) == (100, 100, 3)
    present = np.ones((3, 20), dtype=bool)
    present[1, 4] = False
    wanted = (pose.bodies * (200, 100) - (50, 0)) / (100, 100)
    np.testing.assert_allclose(placed.bodies[present], wanted[present])
    np.testing.assert_array_equal(placed.bodies[1, 4], (-1, -1))
    np.testing.assert_array_equal(placed.faces, pose.faces)
    np.testing.assert_array_equal(placed.visible, pose.visible)


def test_small_videos_and_other_words_are_refused():
    for size in ((49, 80), (80, 49)):
        with pytest.raises(ValueError, match=r"are less than the 50 x 50 of training"):
            training_region(*size, 50, 50)
        training_region(*size, 50, 50, enlarge=True)
    with pytest.raises(ValueError, match="fit must be crop or stretch, got 'pad'"):
        training_region(80, 80, 50, 50, fit="pad")
