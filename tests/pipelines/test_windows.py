import json

import pytest
from golden import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from unianimate.pipelines import plan_windows

OFFICIAL = json.loads((GOLDEN / "context_windows.json").read_text())


@pytest.mark.parametrize("key", OFFICIAL)
def test_windows_equal_the_official_ones_where_those_make_sense(key):
    frames, size, stride, overlap = (int(part) for part in key.split(","))
    windows = plan_windows(frames, size, overlap, stride)
    if frames <= size:
        assert windows == (tuple(range(frames)),)
    else:
        assert [list(window) for window in windows] == OFFICIAL[key]


@given(
    frames=st.integers(1, 300), size=st.integers(1, 40), data=st.data(), stride=st.integers(1, 3)
)
def test_every_frame_is_in_a_window_of_the_right_size(frames, size, data, stride):
    overlap = data.draw(st.integers(0, size - 1))
    windows = plan_windows(frames, size, overlap, stride)
    assert {frame for window in windows for frame in window} == set(range(frames))
    assert {len(window) for window in windows} == {min(frames, size)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8, 2), "must be at least 1, got 0, 8 and 1"),
        ((8, 8, 8), "overlap must be 0 to 7, got 8"),
        ((8, 8, -1), "overlap must be 0 to 7, got -1"),
    ],
)
def test_impossible_windows_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_windows(*arguments)
