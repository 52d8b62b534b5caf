import asyncio
import gc
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command import run
from PIL import Image

pytest.importorskip("gradio")

from unianimate.cli.page import build_page, serve
from unianimate.data import Puppet, probe_video
from unianimate.models import PRESETS, UniAnimate
from unianimate.pipelines import AnimatePipeline

pytestmark = [
    # gradio uses what its own dependencies announce the end of, and leaves sockets to be collected
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """A photo that has to be turned upright, its pose, and poses to drive it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # no DWPose networks are there
    puppet = Puppet(3)
    photo, standing = puppet.reference(96, 64)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(photo).rotate(90, expand=True).save(tmp_path / "photo.jpg", exif=exif)
    standing.save(tmp_path / "photo_pose.npz")
    puppet.poses(5, 96, 64).save(tmp_path / "dance.npz")
    return tmp_path


@pytest.fixture(autouse=True)
def no_loop_left():
    """Let go of the event loop that gradio gives to this thread, while its warning is ignored."""
    yield
    asyncio.set_event_loop(None)
    gc.collect()


@pytest.fixture
def hosts(monkeypatch):
    """Every host that this process asks for."""
    asked = set()
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def spy_connect(self, address):
        asked.add(address[0] if self.family != socket.AF_UNIX else "unix")
        return connect(self, address)

    def spy_resolve(host, *args, **kwargs):
        asked.add(host)
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", spy_connect)
    monkeypatch.setattr(socket, "getaddrinfo", spy_resolve)
    return asked


@pytest.mark.slow
def test_the_page_animates_and_asks_nobody_else(inputs, tmp_path, hosts, monkeypatch):
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    # the client, not the page, would ask the Hub who is calling
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    torch.manual_seed(0)
    model = UniAnimate(replace(PRESETS["test"], steps=2, guidance=1.0)).eval()
    page = build_page(AnimatePipeline(model), tmp_path)
    try:
        url = serve(page)
        assert url.startswith("http://127.0.0.1:")
        client = Client(url, verbose=False, download_files=str(tmp_path / "got"))
        files = [handle_file(inputs / name) for name in ("photo.jpg", "dance.npz")]
        pose = handle_file(inputs / "photo_pose.npz")
        options = ("window", "dpm++", 2, 1.5, 3, "crop", 7)
        job = client.submit(*files, pose, *options, api_name="/animate")
        poses, video, status = job.result(timeout=120)
        assert [probe_video(path).num_frames for path in (poses, video)] == [3, 3]
        assert (probe_video(video).width, probe_video(video).height) == (32, 48)
        assert status.startswith("3 frames")
        # the poses are there before the video
        assert job.outputs()[0][1] is None

        with pytest.raises(AppError, match="Choose a photo, and a driving"):
            client.predict(None, files[1], pose, *options, api_name="/animate")
        with pytest.raises(AppError, match=r"photo_pose\.npz"):
            client.predict(files[0], files[1], None, *options, api_name="/animate")
    finally:
        page.close()
    assert hosts <= {"127.0.0.1", "localhost", "unix"}


def test_a_cleared_number_is_the_default_and_no_folder_stays(inputs, tmp_path):
    torch.manual_seed(0)
    model = UniAnimate(replace(PRESETS["test"], steps=1, guidance=1.0)).eval()
    page = build_page(AnimatePipeline(model), tmp_path / "made")
    (tmp_path / "made").mkdir()
    animate = next(event.fn for event in page.fns.values() if event.api_name == "animate")
    files = [str(inputs / name) for name in ("photo.jpg", "dance.npz", "photo_pose.npz")]

    def video(frames, seed):
        results = animate(*files, "window", "ddim", 1, 1.0, frames, "crop", seed)
        return [Path(video or preview).read_bytes() for preview, video, _ in results]

    assert video(None, None) == video(0, 7)
    assert list((tmp_path / "made").iterdir()) == []


def test_another_scheduler_brings_its_own_number_of_steps(tmp_path):
    model = UniAnimate(replace(PRESETS["test"], steps=31)).eval()
    page = build_page(AnimatePipeline(model), tmp_path)
    (chosen,) = (event.fn for event in page.fns.values() if event.api_name != "animate")
    assert (chosen("ddim"), chosen("dpm++")) == (31, 16)


def test_without_gradio_one_line_says_what_to_install(monkeypatch, capsys, tmp_path):
    UniAnimate(PRESETS["test"]).save_pretrained(tmp_path)
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")  # the command sets them: they go back afterwards
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "unianimate.cli.page", raising=False)
    status, _, err = run(monkeypatch, capsys, "web", "--model", tmp_path)
    assert (status, err.count("\n")) == (2, 1)
    assert "pip install 'unianimate[demo]'" in err


def test_without_a_model_one_line_says_how_to_get_one(monkeypatch, capsys, tmp_path):
    status, _, err = run(monkeypatch, capsys, "web", "--model", tmp_path / "none")
    assert (status, err.count("\n")) == (2, 1)
    assert "unianimate convert" in err
