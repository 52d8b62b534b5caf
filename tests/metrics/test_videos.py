import numpy as np
import pytest
from PIL import Image

from unianimate.data import Puppet, VideoWriter
from unianimate.metrics.videos import load_poses, match_videos


def write(path, video):
    with VideoWriter(path, 8) as writer:
        for frame in video:
            writer.write(frame)


@pytest.fixture
def clip():
    return Puppet(0).render(4, 48, 32)[0]


def test_folders_are_matched_by_name_whatever_the_format(tmp_path, clip):
    for folder in ("made", "real"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "made" / "b.mp4", clip)
    write(tmp_path / "made" / "a", clip[::-1])
    write(tmp_path / "real" / "b", clip)
    write(tmp_path / "real" / "a", clip)
    (tmp_path / "real" / "notes.txt").write_text("not a video")
    names, made, real = match_videos(tmp_path / "made", tmp_path / "real")
    assert names == ("a", "b")
    np.testing.assert_array_equal(made[0], real[0][::-1])
    assert np.abs(made[1].astype(int) - real[1]).mean() < 8


def test_two_videos_and_the_first_frames(tmp_path, clip):
    write(tmp_path / "x.mp4", clip)
    write(tmp_path / "y", clip)
    names, made, real = match_videos(tmp_path / "x.mp4", tmp_path / "y", 3)
    assert names == ("y",)
    assert (len(made), made[0].shape, real[0].shape) == (1, (3, 48, 32, 3), (3, 48, 32, 3))
    np.testing.assert_array_equal(real[0], clip[:3])
    with pytest.raises(ValueError, match="wanted 9 frames, there are 4"):
        match_videos(tmp_path / "x.mp4", tmp_path / "y", 9)[1][0]


def test_what_does_not_match_is_named(tmp_path, clip):
    for name in ("real/a", "real/b", "made/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, clip)
    with pytest.raises(ValueError, match="made: no video named b; generated and true"):
        match_videos(tmp_path / "made", tmp_path / "real")
    with pytest.raises(ValueError, match="made: no video named b; generated and true"):
        match_videos(tmp_path / "real", tmp_path / "made")
    with pytest.raises(ValueError, match="one is a video and the other a folder"):
        match_videos(tmp_path / "made" / "a", tmp_path / "real")
    write(tmp_path / "made" / "a.mp4", clip)
    with pytest.raises(ValueError, match="rename one"):
        match_videos(tmp_path / "made", tmp_path / "real")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        match_videos(tmp_path / "none", tmp_path / "real")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there are no videos in it"):
        match_videos(tmp_path / "empty", tmp_path / "real")


@pytest.mark.parametrize("names", [("a.mp4", "b.mp4"), ("a", "b")])
def test_a_picture_beside_videos_is_left_out(tmp_path, clip, names):
    for name in names:
        write(tmp_path / name, clip)
    Image.new("RGB", (8, 8)).save(tmp_path / "contact_sheet.png")
    found, videos, _ = match_videos(tmp_path, tmp_path)
    assert found == ("a", "b")
    assert videos[1].shape == clip.shape


def test_pictures_with_their_poses_and_hidden_folders_below_are_one_video(tmp_path, clip):
    for name in ("frames", "frames/poses_pose", "frames/.thumbnails"):
        write(tmp_path / name, clip)
    names, videos, _ = match_videos(tmp_path / "frames", tmp_path / "frames")
    assert (names, videos[0].shape) == (("frames",), clip.shape)


def test_pictures_of_different_sizes_are_no_video(tmp_path):
    for index, size in enumerate([(8, 8), (8, 9)]):
        Image.new("RGB", size).save(tmp_path / f"{index}.png")
    with pytest.raises(ValueError, match="different sizes"):
        match_videos(tmp_path, tmp_path)[1][0]


def test_poses_by_the_names_of_the_videos(tmp_path):
    poses = Puppet(0).poses(4, 48, 32)
    poses.save(tmp_path / "a.npz")
    poses.save(tmp_path / "b_pose.npz")
    assert [len(found) for found in load_poses(tmp_path, ["a", "b"], 3)] == [3, 3]
    assert len(load_poses(tmp_path / "a.npz", ["other"])[0]) == 4
    with pytest.raises(ValueError, match="a pose file for each"):
        load_poses(tmp_path / "a.npz", ["a", "b"])
    with pytest.raises(FileNotFoundError, match=r"no c_pose\.npz and no c\.npz"):
        load_poses(tmp_path, ["c"])
