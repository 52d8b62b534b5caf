import os
import pickle

import numpy as np
import pytest
from PIL import Image
from poses import random_pose
from videos import moving_pattern, write_encoded

from unianimate.data import PosedVideo, PosedVideos, VideoWriter, fit_picture, read_video
from unianimate.data.clips import BrokenVideoError
from unianimate.data.pose_frames import draw_pose_frames
from unianimate.data.region import training_region
from unianimate.pose import PosePictures, write_pose_pictures

LENGTH, HEIGHT, WIDTH = 20, 64, 96
W, H = 32, 48


@pytest.fixture
def video(tmp_path):
    path = write_encoded(tmp_path / "a.mp4", moving_pattern(LENGTH, HEIGHT, WIDTH), g="8", bf="2")
    random_pose(LENGTH, WIDTH, HEIGHT).save(tmp_path / "a_pose.npz")
    return PosedVideo(path, tmp_path / "a_pose.npz")


def one(video, **options):
    return PosedVideos([video], W, H, **options)


def test_frames_and_poses_are_cut_alike(video):
    videos = one(video)
    assert (len(videos), videos.num_frames(0)) == (1, LENGTH)
    numbers = [7, 3, 3, -1]
    frames, poses = videos.read(0, numbers)
    assert frames.shape == poses.shape == (4, H, W, 3)
    assert frames.dtype == poses.dtype == np.uint8
    decoded = list(read_video(video.video))
    placed = training_region(WIDTH, HEIGHT, W, H).place(random_pose(LENGTH, WIDTH, HEIGHT))
    drawn = draw_pose_frames(placed, W, H)
    for number, frame, pose in zip(numbers, frames, poses):
        fitted = fit_picture(Image.fromarray(decoded[number]), W, H, "crop")
        assert np.abs(frame.astype(int) - np.asarray(fitted)).max() <= 1
        np.testing.assert_array_equal(pose, drawn[number])


def test_a_folder_of_pictures_with_pose_pictures(tmp_path):
    pattern = moving_pattern(5, HEIGHT, WIDTH)
    with VideoWriter(tmp_path / "b", 8) as writer:
        for frame in pattern:
            writer.write(frame)
    poses = random_pose(5)
    # as large as the poses are drawn, whatever the size of the video: what is cut is relative
    written = write_pose_pictures(tmp_path / "b_pose", poses, poses)
    frames, read = one(PosedVideo(tmp_path / "b", tmp_path / "b_pose")).read(0, [4, 1])
    region = training_region(WIDTH, HEIGHT, W, H)
    for index, number in enumerate((4, 1)):
        picture = Image.fromarray(pattern[number])
        np.testing.assert_array_equal(frames[index], region.cut(picture, W, H))
        picture = Image.fromarray(written.read_one(number))
        np.testing.assert_array_equal(read[index], region.cut(picture, W, H))


def test_pose_pictures_are_over_black_as_in_animate(tmp_path):
    poses = tmp_path / "poses"
    with VideoWriter(tmp_path / "b", 8) as writer:
        writer.write(moving_pattern(1, H, W)[0])
    drawn = Image.new("RGBA", (W, H), (255, 255, 255, 0))
    drawn.paste((200, 40, 0, 255), (8, 8, 24, 24))
    poses.mkdir()
    drawn.save(poses / "0000.png")
    drawn.save(poses / "ref_pose.jpg", format="PNG")
    _, read = one(PosedVideo(tmp_path / "b", poses)).read(0, [0])
    np.testing.assert_array_equal(read[0], PosePictures.open(poses).read_one(0))
    assert read[0, 0, 0].tolist() == [0, 0, 0] and read[0, 16, 16].tolist() == [200, 40, 0]


def test_a_part_of_a_video_is_a_video(video):
    whole, part = one(video), one(video._replace(start=5, stop=-3))
    assert part.num_frames(0) == LENGTH - 8
    for wanted, read in zip(whole.read(0, [5, 16]), part.read(0, [0, 11])):
        np.testing.assert_array_equal(read, wanted)
    with pytest.raises(IndexError):
        part.read(0, [12])
    with pytest.raises(IndexError):
        part.read(1, [0])


def test_a_copy_opens_the_files_anew(video):
    videos = one(video, fit="stretch")
    wanted = videos.read(0, [9])
    for copied, read in zip(wanted, pickle.loads(pickle.dumps(videos)).read(0, [9])):
        np.testing.assert_array_equal(read, copied)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_does_not_read_from_its_parents_file(video, monkeypatch):
    videos = one(video)
    videos.num_frames(0)
    opened = videos._last[1]
    monkeypatch.setattr(os, "getpid", lambda: -1)
    videos.num_frames(0)
    assert videos._last[1] is not opened


def test_what_is_broken_says_which_video_it_is(video, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    random_pose(LENGTH - 1).save(tmp_path / "short.npz")
    (tmp_path / "sizes").mkdir()
    for index, size in enumerate(((96, 64), (64, 96))):
        Image.new("RGB", size).save(tmp_path / "sizes" / f"{index}.png")
    random_pose(2).save(tmp_path / "sizes_pose.npz")
    cases = {
        "text.mp4: this is not a video": video._replace(video=text),
        "text.mp4: not a pose file": video._replace(poses=text),
        "a.mp4 has 20 frames and .*short.npz has 19 poses": video._replace(
            poses=tmp_path / "short.npz"
        ),
        "a.mp4 has 20 frames, and none is used": video._replace(start=20),
        "none.mp4: no such file or directory": video._replace(video=tmp_path / "none.mp4"),
        "a.mp4: .*none.npz: no such file or directory": video._replace(poses=tmp_path / "none.npz"),
    }
    for says, broken in cases.items():
        with pytest.raises(BrokenVideoError, match=says):
            one(broken).num_frames(0)
    with pytest.raises(BrokenVideoError, match="sizes: its frames change size"):
        one(PosedVideo(tmp_path / "sizes", tmp_path / "sizes_pose.npz")).read(0, [0, 1])
    with pytest.raises(BrokenVideoError, match=r"a\.mp4: 96 x 64 pixels are less than the 97 x 64"):
        PosedVideos([video], 97, 64).read(0, [0])
    assert PosedVideos([video], 97, 64, enlarge=True).read(0, [0])[0].shape == (1, 64, 97, 3)


def test_bad_requests_are_refused(video):
    with pytest.raises(ValueError, match="there are no videos"):
        PosedVideos([], W, H)
    with pytest.raises(ValueError, match="must be pixels, got 0 x 48"):
        PosedVideos([video], 0, H)
    with pytest.raises(ValueError, match="fit must be crop or stretch, got 'pad'"):
        one(video, fit="pad")
