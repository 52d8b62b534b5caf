import logging

import numpy as np
import pytest
from PIL import Image
from poses import random_pose

from unianimate.data import find_poses, list_videos, open_video_set, pose_file
from unianimate.data.layouts import VideoFile


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(layout, folder, split=None):
    return [video.name for video in list_videos(layout, folder, split)]


def test_a_folder_has_video_files_and_folders_of_pictures(tmp_path):
    touch(tmp_path, "b.MP4", "a 2.webm", "c/0.png", "c_pose/0.png", "d/notes.txt", "a 10.gif")
    touch(tmp_path, ".hidden.mp4", ".hidden/0.png", "b_pose.npz", "poster.jpg")
    touch(tmp_path, "b_pose.mp4", "strike_a_pose.mp4")
    assert names("folder", tmp_path) == ["a 2", "a 10", "b", "strike_a_pose", "c"]
    assert names("folder", tmp_path, "train") == names("folder", tmp_path)
    with pytest.raises(
        ValueError, match="there are no test videos in it; a data set of layout fol"
    ):
        list_videos("folder", tmp_path, "test")


def test_tiktok_is_laid_out_as_it_was_published(tmp_path):
    for number in (1, 334, 335, 340):
        for part in ("images", "masks", "densepose"):
            touch(tmp_path, f"{number:05d}/{part}/0001.png")
    touch(tmp_path, "extra/images/0001.png", "TikTok_Data_License.txt")
    assert names("tiktok", tmp_path) == ["00001", "00334", "00335", "00340"]
    assert names("tiktok", tmp_path, "train") == ["00001", "00334"]
    assert names("tiktok", tmp_path, "test") == ["00335", "00340"]
    video = list_videos("tiktok", tmp_path)[0]
    assert video.path == tmp_path / "00001" / "images"
    assert pose_file(video, tmp_path) == tmp_path / "00001_pose.npz"


def test_fashion_is_laid_out_as_its_script_downloads_it(tmp_path):
    touch(tmp_path, "train/91D2.mp4", "train/A1P+0.mp4", "test/91bx.mp4", "fashion_train.txt")
    assert names("fashion", tmp_path) == ["train/91D2", "train/A1P+0", "test/91bx"]
    assert names("fashion", tmp_path, "test") == ["test/91bx"]
    video = list_videos("fashion", tmp_path, "test")[0]
    assert pose_file(video, tmp_path / "poses") == tmp_path / "poses" / "test" / "91bx_pose.npz"


def test_what_is_no_data_set_is_refused(tmp_path):
    for layout in ("folder", "tiktok", "fashion"):
        with pytest.raises(ValueError, match=f"no videos in it; a data set of layout {layout} has"):
            list_videos(layout, tmp_path)
    with pytest.raises(ValueError, match="layout must be folder, tiktok, fashion, got 'ubc'"):
        list_videos("ubc", tmp_path)
    with pytest.raises(FileNotFoundError):
        list_videos("folder", tmp_path / "none")
    touch(tmp_path, "a.mp4", "a.mov")
    with pytest.raises(ValueError, match=r"a\.mov and .*a\.mp4 would share their poses"):
        list_videos("folder", tmp_path)


def test_poses_are_found_by_name(tmp_path):
    video = VideoFile("train/a.b", tmp_path / "train" / "a.b.mp4")
    assert find_poses(video, tmp_path) is None
    for name in ("train/a.b_pose/0.png", "train/a.b.npz", "train/a.b_pose.npz"):
        touch(tmp_path, name)
        expected = tmp_path / name
        found = expected.parent if expected.suffix == ".png" else expected
        assert find_poses(video, tmp_path) == found


def test_videos_without_poses_are_left_out_and_the_command_is_told(tmp_path, caplog):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        for index in range(3):
            picture = np.full((16, 16, 3), 10 * index, dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{index}.png")
    poses = tmp_path / "poses"
    with pytest.raises(ValueError, match="3 of 3 videos have no poses, the first is a; make them"):
        open_video_set("folder", tmp_path, 8, 8, poses=poses)
    poses.mkdir()
    random_pose(3).save(poses / "b_pose.npz")
    with caplog.at_level(logging.WARNING):
        videos = open_video_set("folder", tmp_path, 8, 8, poses=poses)
    command = f"`unianimate pose extract {tmp_path} --layout folder -o {poses}`"
    assert "2 of 3 videos have no poses" in caplog.text and command in caplog.text
    assert (len(videos), videos.num_frames(0)) == (1, 3)
    frames, _ = videos.read(0, [2])
    assert (frames == 20).all()
