import numpy as np
import pytest
from command import run

from unianimate.data import probe_video, read_video
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


def test_extract_without_networks_says_what_is_needed(files, command, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(files))
    status, _, err = command("extract", files / "video.mp4", "-o", files / "out.npz")
    assert status == 2
    assert "yolox_l.onnx" in err
    assert not (files / "out.npz").exists()
