import numpy as np
import pytest
from poses import random_pose
from videos import moving_pattern, write_encoded

from unianimate.data import open_video_set
from unianimate.training.config import DataConfig
from unianimate.training.videos import open_videos


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate("ab"):
        write_encoded(tmp_path / f"{name}.mp4", moving_pattern(6, seed=seed))
        random_pose(6, seed=seed).save(tmp_path / f"{name}_pose.npz")
    return tmp_path


def test_a_folder_of_videos_is_read_as_it_is_and_from_a_cache(folder):
    (folder / "b.mp4").write_text("no video")
    data = DataConfig(kind="folder", path=str(folder), workers=0)
    cached = DataConfig(
        kind="folder", path=str(folder), workers=0, cache=str(folder / "kept" / "cache")
    )
    wanted = open_video_set("folder", folder, 32, 32).read(0, [4, 0])
    assert len(open_videos(data, 32, 32)) == 2
    cache = open_videos(cached, 32, 32)
    assert (len(cache), cache.num_frames(0)) == (1, 6)
    for videos in (open_videos(data, 32, 32), cache):
        for one, other in zip(videos.read(0, [4, 0]), wanted):
            np.testing.assert_array_equal(one, other)


def test_videos_smaller_than_the_model_are_taken_when_asked(folder):
    data = DataConfig(kind="folder", path=str(folder), fit="stretch", enlarge=True)
    assert open_videos(data, 128, 96).read(0, [0])[0].shape == (1, 96, 128, 3)


def test_a_folder_must_be_named():
    with pytest.raises(
        ValueError, match=r"data\.path: name the folder of the videos, for data\.kind"
    ):
        open_videos(DataConfig(kind="tiktok"), 32, 32)
