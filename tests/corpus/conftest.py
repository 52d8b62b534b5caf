"""A folder of good files to spoil one of, and what every refusal must look like."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run
from listing import listing
from PIL import Image
from stand_in import write_networks

from unianimate.data import VideoWriter
from unianimate.models import PRESETS, UniAnimate
from unianimate.pose import PoseSequence, write_pose_pictures


def pose(frames: int, **changed) -> PoseSequence:
    random = np.random.default_rng(0)
    arrays = {
        "bodies": random.uniform(0.2, 0.8, (frames, 20, 2)),
        "visible": np.ones((frames, 20), dtype=bool),
        "hands": random.uniform(0.2, 0.8, (frames, 2, 21, 2)),
        "faces": np.full((frames, 68, 2), -1.0),
    }
    return PoseSequence(**{**arrays, "width": 64, "height": 96, "fps": 12, **changed})


@pytest.fixture(scope="session")
def good(tmp_path_factory) -> Path:
    """A photo, its pose, driving poses, a driving video, a pose folder, a model and networks."""
    folder = tmp_path_factory.mktemp("good")
    pixels = np.random.default_rng(0).integers(0, 255, (60, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    Image.fromarray(pixels).save(folder / "photo.jpg", quality=90)
    pose(1).save(folder / "photo_pose.npz")
    pose(5).save(folder / "dance.npz")
    with VideoWriter(folder / "dance.mp4", 8) as writer:
        for shade in range(0, 250, 25):
            writer.write(np.full((64, 64, 3), shade, dtype=np.uint8))
    write_pose_pictures(folder / "poses", pose(3), pose(1), height=48, width=32)
    torch.manual_seed(0)
    UniAnimate(PRESETS["test"]).save_pretrained(folder / "model")
    networks = folder / "data" / "unianimate" / "pose"
    networks.mkdir(parents=True)
    write_networks(networks)
    return folder


@pytest.fixture
def here(good, tmp_path, monkeypatch) -> Path:
    """A working folder with links to the good files."""
    folder = tmp_path / "here"
    folder.mkdir()
    for path in good.iterdir():
        (folder / path.name).symlink_to(path)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    return folder


@pytest.fixture(autouse=True)
def limit():
    """Fail after a minute: what is refused must not be waited for."""

    def late(number, frame):
        raise TimeoutError("this input was waited for")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def refused(here, monkeypatch, capfd):
    """Run a command and expect one line that says something, status 2 and nothing left behind."""

    def call(*arguments, says: str) -> None:
        before = listing(here)
        status, out, err = run(monkeypatch, capfd, *arguments)
        assert err.count("\n") == 1, err
        assert err.startswith("unianimate: ")
        assert says in err
        assert (status, out) == (2, "")
        assert listing(here) == before

    return call


@pytest.fixture
def animate_refused(refused):
    """Run ``animate`` with something spoiled; what is not named is good."""

    def call(
        *options, photo="photo.png", driving="dance.npz", output="out.mp4", model="model", says
    ) -> None:
        arguments = ("-o", output, "--model", model, *options, "--", photo, driving)
        refused("animate", *arguments, says=says)

    return call
