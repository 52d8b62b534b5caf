import numpy as np
import pytest

from unianimate.data import contact_sheet


def plain(value: int, height: int = 12, width: int = 8) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_the_reference_comes_first_and_every_frame_stands_under_its_pose():
    poses, frames = [plain(v, 6, 6) for v in range(9)], [plain(100 + v) for v in range(9)]
    sheet = contact_sheet((plain(50, 5, 5), plain(60, 7, 9)), poses, frames, columns=3, height=24)
    assert sheet.shape == (48, 64, 3)
    cells = sheet.reshape(2, 24, 4, 16, 3)
    assert (cells == cells[:, :1, :, :1]).all()
    np.testing.assert_array_equal(cells[:, 0, :, 0, 0], [[50, 0, 4, 8], [60, 100, 104, 108]])


def test_a_short_video_is_shown_whole():
    sheet = contact_sheet((plain(0), plain(0)), [plain(0)] * 2, [plain(0)] * 2, height=12)
    assert sheet.shape == (24, 24, 3)


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (0, {}, "wants frames and one pose each, got 0 and 1"),
        (2, {}, "wants frames and one pose each, got 2 and 1"),
        (1, {"columns": 0}, "columns and height must be at least 1, got 0 and 256"),
    ],
)
def test_impossible_sheets_are_refused(frames, options, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet((plain(0), plain(0)), [plain(0)], [plain(0)] * frames, **options)
