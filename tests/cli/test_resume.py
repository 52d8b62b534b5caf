"""Runs that are killed, interrupted or fail: what is left, and what goes on."""

import random
import signal
import sys
import time

import pytest
from command import run
from processes import start
from small_run import photo, random_pose, small_model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
INPUTS = ("photo.png", "dance.npz", "--model", "model", "--steps", "2", "--long", "chain")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    small_model().save_pretrained(folder / "model")
    photo().save(folder / "photo.png")
    # five segments: four are still to be made when the first frame is written
    random_pose(16, 2).save(folder / "dance.npz")
    random_pose(1, 1).save(folder / "photo_pose.npz")
    return folder


@pytest.fixture(scope="module")
def whole(files):
    """The file of a run that nothing stops, and how long it took."""
    start(files, "info").join()  # the first process waits for the imports
    begun = time.monotonic()
    process = start(files, "animate", *INPUTS, "-o", "whole.mp4")
    process.join()
    assert process.exitcode == 0, (files / "err").read_text()
    return (files / "whole.mp4").read_bytes(), time.monotonic() - begun


@pytest.fixture
def here(files, tmp_path):
    for path in files.iterdir():
        if path.name not in ("out", "err", "whole.mp4"):
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def made(folder):
    """Return what is there that was not there before."""
    return sorted(path.name for path in folder.iterdir() if not path.is_symlink() and path.suffix)


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 2), pytest.param(1, 8, marks=pytest.mark.slow)], ids=["2", "8"]
)
def test_killed_at_any_moment_it_goes_on_to_the_same_file(here, whole, seed, kills):
    content, seconds = whole
    moments = random.Random(seed)
    for _ in range(kills):
        process = start(here, "animate", *INPUTS, "-o", "out.mp4", "--resume")
        process.join(moments.uniform(0, seconds))
        process.kill()
        process.join()
        assert set(made(here)) <= {".out.mp4.unfinished", "out.mp4"}
        if (here / "out.mp4").exists():
            assert (here / "out.mp4").read_bytes() == content
    process = start(here, "animate", *INPUTS, "-o", "out.mp4", "--resume")
    process.join()
    assert process.exitcode == 0, (here / "err").read_text()
    assert made(here) == ["out.mp4"]
    assert (here / "out.mp4").read_bytes() == content


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_stopped_it_says_how_to_go_on(here, whole, number):
    process = start(here, "animate", *INPUTS, "-o", "out.mp4")
    kept = here / ".out.mp4.unfinished"
    wait_until((kept / "frames" / "00000.png").exists)
    import os

    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 128 + number
    line = (here / "err").read_text()
    assert line.count("\n") == 1
    assert "stopped: out.mp4 is not written; what is done stays in .out.mp4.unfinished: " in line
    assert made(here) == [".out.mp4.unfinished"]
    assert list((kept / "scratch").iterdir()) == []
    process = start(here, "animate", *INPUTS, "-o", "out.mp4", "--resume", "--json")
    process.join()
    assert process.exitcode == 0
    assert '"resumed_frames": 0' not in (here / "out").read_text()
    assert (here / "out.mp4").read_bytes() == whole[0]
    assert made(here) == ["out.mp4"]


def stop_after(monkeypatch, frames, error):
    """Let writing the video fail after so many frames."""
    from unianimate.data import VideoWriter

    write = VideoWriter.write
    written = []

    def failing(self, frame):
        if len(written) == frames:
            raise error
        written.append(frame)
        write(self, frame)

    monkeypatch.setattr(VideoWriter, "write", failing)


@pytest.fixture
def command(here, monkeypatch, capfd):
    monkeypatch.chdir(here)
    return lambda *options: run(
        monkeypatch, capfd, "animate", *INPUTS, "-o", "out.mp4", "--frames", "3", *options
    )


def test_a_full_disk_leaves_nothing_or_with_resume_what_is_done(here, command, monkeypatch):
    full = OSError(28, "No space left on device", "out.mp4")
    with monkeypatch.context() as patch:
        stop_after(patch, 2, full)
        status, out, err = command()
        assert (status, out) == (2, "")
        assert err == (
            "unianimate: out.mp4: no space left on device; choose another place or name\n"
        )
        assert made(here) == []
    with monkeypatch.context() as patch:
        stop_after(patch, 2, full)
        assert command("--resume")[0] == 2
        assert made(here) == [".out.mp4.unfinished"]
    status, _, err = command("--resume", "--seed", "8")
    assert (status, err.count("\n")) == (2, 1)
    assert ".out.mp4.unfinished keeps another run" in err
    assert "seed was 7 and is 8" in err
    assert made(here) == [".out.mp4.unfinished"]
    status, out, err = command("--seed", "8")
    assert status == 0
    assert err == "unianimate: out.mp4: starting afresh; what an unfinished run kept is dropped\n"
    assert made(here) == ["out.mp4"]


def test_a_stop_before_the_first_step_leaves_nothing(here, command, monkeypatch):
    from unianimate.models import ImageEncoder

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageEncoder, "encode", interrupted)
    status, out, err = command()
    assert (status, out) == (130, "")
    assert err == "unianimate: stopped: out.mp4 was not begun, and nothing is left of it\n"
    assert made(here) == []
