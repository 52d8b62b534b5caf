import os
from dataclasses import replace

import numpy as np
import pytest
from command import run
from PIL import Image
from stand_in import write_networks
from videos import moving_pattern, write_encoded

from unianimate.cli.inputs import driving_fps, driving_poses
from unianimate.data import list_videos, open_video_set, probe_video, read_video
from unianimate.pose import PosePictures, PoseSequence


@pytest.fixture
def files(tmp_path):
    random = np.random.default_rng(0)
    for name, frames in (("driving", 5), ("reference", 1)):
        PoseSequence(
            bodies=random.uniform(0.2, 0.8, (frames, 20, 2)),
            visible=np.ones((frames, 20), dtype=bool),
            hands=random.uniform(0.2, 0.8, (frames, 2, 21, 2)),
            faces=random.uniform(0.2, 0.8, (frames, 68, 2)),
            width=80,
            height=120,
            fps=12,
        ).save(tmp_path / f"{name}.npz")
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys):
    return lambda *arguments: run(monkeypatch, capsys, "pose", *arguments)


def test_align_writes_the_aligned_poses(files, command):
    status, out, _ = command(
        "align", files / "driving.npz", "-r", files / "reference.npz", "-o", files / "aligned.npz"
    )
    assert (status, "5 frames aligned" in out) == (0, True)
    aligned = PoseSequence.load(files / "aligned.npz")
    reference = PoseSequence.load(files / "reference.npz")
    np.testing.assert_allclose(aligned.bodies[0, 1], reference.bodies[0, 1], atol=1e-6)


def test_draw_makes_a_preview(files, command):
    status, _, _ = command(
        *("draw", files / "driving.npz", "-o", files / "preview.mp4"),
        *("--width", 64, "--height", 96),
    )
    assert status == 0
    info = probe_video(files / "preview.mp4")
    assert (info.width, info.height, info.fps) == (64, 96, 12)
    assert len(list(read_video(files / "preview.mp4"))) == 5


def test_draw_makes_a_pose_folder(files, command):
    arguments = ("draw", files / "driving.npz", "-o", files / "poses")
    status, _, err = command(*arguments)
    assert status == 2
    assert "name its file with --reference" in err
    assert not (files / "poses").exists()
    assert command(*arguments, "-r", files / "reference.npz")[0] == 0
    assert len(PosePictures.open(files / "poses")) == 5


@pytest.mark.parametrize("option", [("--face",), ("--fps", "12")])
def test_a_pose_folder_refuses_what_it_cannot_hold(files, command, option):
    arguments = ("draw", files / "driving.npz", "-r", files / "reference.npz")
    status, _, err = command(*arguments, "-o", files / "poses", *option)
    assert (status, "leave out --face and --fps, or write an .mp4" in err) == (2, True)
    assert not (files / "poses").exists()


def test_a_preview_of_0_fps_is_refused(files, command):
    arguments = ("draw", files / "driving.npz", "-o", files / "preview.mp4")
    status, _, err = command(*arguments, "--fps", "0")
    assert (status, "fps must be positive, got 0" in err) == (2, True)


@pytest.mark.parametrize("what", ["extract", "align"])
def test_poses_are_not_written_over_a_video(files, command, what):
    source = files / ("video.mp4" if what == "extract" else "driving.npz")
    reference = ("-r", files / "driving.npz") if what == "align" else ()
    (files / "video.mp4").write_bytes(before := b"a recording")
    status, _, err = command(what, source, "-o", files / "video.mp4", *reference)
    assert (status, "video.mp4: poses go into an .npz file; name one" in err) == (2, True)
    assert (files / "video.mp4").read_bytes() == before


def test_extract_without_networks_says_what_is_needed(files, command, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(files))
    status, _, err = command("extract", files / "video.mp4", "-o", files / "out.npz")
    assert status == 2
    assert "yolox_l.onnx" in err
    assert not (files / "out.npz").exists()


@pytest.fixture
def networks(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "data" / "unianimate" / "pose"
    folder.mkdir(parents=True)
    write_networks(folder)


def write_pictures(folder, frames):
    folder.mkdir(parents=True)
    for index, frame in enumerate(moving_pattern(frames)):
        Image.fromarray(frame).save(folder / f"{index:04d}.png")


def test_extract_writes_beside_the_source(networks, tmp_path, command):
    video = write_encoded(tmp_path / "dance.mp4", moving_pattern(5))
    status, out, _ = command("extract", video, "--every", 2)
    assert (status, out) == (0, f"{tmp_path / 'dance_pose.npz'}: 3 frames, a person in 3\n")
    assert PoseSequence.load(tmp_path / "dance_pose.npz").fps == 12.5
    write_pictures(tmp_path / "pictures", 3)
    status, _, _ = command("extract", tmp_path / "pictures", "-o", tmp_path / "named.npz")
    assert (status, len(PoseSequence.load(tmp_path / "named.npz"))) == (0, 3)


@pytest.fixture
def no_search(monkeypatch):
    """Whoever looks for poses fails the test."""
    monkeypatch.setattr("unianimate.pose.DWPose.__call__", lambda *_, **__: pytest.fail("too late"))


def test_extract_refuses_a_place_that_cannot_be_written_before_it_looks(
    networks, tmp_path, command, monkeypatch, no_search
):
    videos = tmp_path / "videos"
    videos.mkdir()
    video = write_encoded(videos / "dance.mp4", moving_pattern(2))
    (tmp_path / "folder.npz").mkdir()
    for name, says in (
        ("none/a.npz", f"there is no folder {tmp_path / 'none'}; make it"),
        ("folder.npz", "is a folder"),
    ):
        status, _, err = command("extract", video, "-o", tmp_path / name)
        assert (status, says in err) == (2, True)
    # root may write everywhere
    monkeypatch.setattr("os.access", lambda path, mode: path != videos or not mode & os.W_OK)
    for source in (video, videos):
        status, _, err = command("extract", source)
        assert (status, f"nothing may be written to {videos}" in err) == (2, True)
        assert f"{videos / 'dance_pose.npz'}: " in err


def test_poses_are_found_in_no_more_frames_than_are_needed(networks, files, tmp_path):
    video = write_encoded(tmp_path / "dance.mp4", moving_pattern(9))
    named = (files / "photo.png", Image.new("RGB", (8, 8)), video, files / "reference.npz")
    poses = driving_poses(*named, no_align=False, every=2, frames=3)
    assert (len(poses.driving), poses.num_frames) == (5, 3)


@pytest.mark.parametrize("every", [1, 2])
def test_the_frame_rate_is_known_before_poses_are_found(networks, files, tmp_path, command, every):
    photo = (files / "photo.png", Image.new("RGB", (8, 8)))
    write_encoded(tmp_path / "dance.mp4", moving_pattern(4))
    reference = files / "reference.npz"
    command("draw", files / "driving.npz", "-r", reference, "-o", tmp_path / "poses")
    replace(PoseSequence.load(files / "driving.npz"), fps=0).save(tmp_path / "unknown.npz")
    for name in ("dance.mp4", "driving.npz", "unknown.npz", "poses"):
        named = None if name == "poses" else reference
        poses = driving_poses(*photo, tmp_path / name, named, no_align=False, every=every)
        assert driving_fps(tmp_path / name, every) == poses.fps


def test_extract_prepares_a_folder_and_goes_on_where_it_stopped(networks, tmp_path, command):
    videos = tmp_path / "videos"
    write_pictures(videos / "b", 3)
    write_encoded(videos / "a.mp4", moving_pattern(4))
    write_encoded(videos / "c.mp4", moving_pattern(2))
    (videos / "d.mp4").write_text("no video")
    status, out, err = command("extract", videos)
    assert status == 0
    assert out == f"{videos}: poses of 3 videos written, 0 were there, 1 videos skipped\n"
    assert "4/4" in err and "d.mp4: this is not a video that can be read" in err
    lengths = {"a": 4, "b": 3, "c": 2}
    for name, length in lengths.items():
        assert len(PoseSequence.load(videos / f"{name}_pose.npz")) == length

    before = (videos / "a_pose.npz").stat().st_mtime_ns
    (videos / "b_pose.npz").unlink()
    _, out, _ = command("extract", videos)
    assert out == f"{videos}: poses of 1 videos written, 2 were there, 1 videos skipped\n"
    assert (videos / "a_pose.npz").stat().st_mtime_ns == before

    prepared = open_video_set("folder", videos, 32, 32)
    assert [prepared.num_frames(index) for index in range(3)] == [4, 2, 3]


@pytest.mark.parametrize("layout", ["tiktok", "fashion"])
def test_extract_prepares_the_public_data_sets(networks, tmp_path, command, layout):
    source = tmp_path / layout
    if layout == "tiktok":
        for number in (1, 338):
            write_pictures(source / f"{number:05d}" / "images", 2)
    else:
        for part in ("train", "test"):
            (source / part).mkdir(parents=True)
            write_encoded(source / part / "91.mp4", moving_pattern(2))
    status, out, _ = command("extract", source, "--layout", layout, "-o", tmp_path / "poses")
    assert (status, "poses of 2 videos written" in out) == (0, True)
    assert {path.name for path in source.rglob("*.npz")} == set()
    for split in ("train", "test"):
        assert len(list_videos(layout, source, split)) == 1
        videos = open_video_set(layout, source, 32, 32, split=split, poses=tmp_path / "poses")
        assert videos.num_frames(0) == 2


def test_extract_refuses_folders_without_videos(networks, tmp_path, command):
    (tmp_path / "empty").mkdir()
    status, _, err = command("extract", tmp_path / "empty")
    assert (status, "there are no videos in it; a data set of layout folder has" in err) == (
        2,
        True,
    )
    (tmp_path / "empty" / "a.mp4").write_text("no video")
    status, _, err = command("extract", tmp_path / "empty")
    assert (status, "none of the 1 videos in it can be read" in err) == (2, True)
    status, _, err = command("extract", tmp_path / "empty", "--layout", "ubc")
    assert (status, "layout must be folder, tiktok, fashion, got 'ubc'" in err) == (2, True)
