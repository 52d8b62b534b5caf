"""Driving videos that cannot be read, or show nobody."""

import os

import av
import numpy as np
import pytest
from stand_in import write_networks

NO_VIDEO = "this is not a video that can be read"


def sound_alone(path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        for start in range(0, 8192, 1024):
            samples = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def no_frames(path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(None))


def noise_inside(good: bytes) -> bytes:
    """Keep the tables and spoil the pictures."""
    start = good.index(b"mdat") + 4
    return good[:start] + np.random.default_rng(0).bytes(len(good) - start)


VIDEOS = {
    "empty": (lambda good: b"", NO_VIDEO),
    "text": (lambda good: b"<html>404 not found</html>", NO_VIDEO),
    "zeros": (lambda good: bytes(5000), NO_VIDEO),
    "first bytes": (lambda good: good[:40], "there are no pictures in it that can be decoded"),
    "half of its tables": (lambda good: good[: good.index(b"mdat") // 2], NO_VIDEO),
    "tables alone": (lambda good: good[: good.index(b"mdat") - 4], "p.mp4: "),
    "first pictures alone": (lambda good: good[: good.index(b"mdat") + 40], "p.mp4: "),
    "pictures of noise": (noise_inside, "p.mp4: "),
    "playlist of addresses": (
        lambda good: b"#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/a.ts\n#EXT-X-ENDLIST\n",
        "p.mp4: ",
    ),
    "list of files": (lambda good: b"ffconcat version 1.0\nfile /etc/passwd\n", "p.mp4: "),
}


@pytest.fixture
def driving_refused(animate_refused):
    return lambda name, says: animate_refused(driving=name, says=says)


@pytest.mark.parametrize("case", VIDEOS)
def test_a_bad_video_is_refused(here, driving_refused, case):
    make, says = VIDEOS[case]
    (here / "p.mp4").write_bytes(make((here / "dance.mp4").read_bytes()))
    driving_refused("p.mp4", says)


@pytest.mark.parametrize("make", [sound_alone, no_frames])
def test_a_video_without_pictures_is_refused(here, driving_refused, make):
    make(here / "p.mp4")
    driving_refused("p.mp4", "p.mp4: ")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.mp4", "none.mp4: no such file or directory; check the name"),
        ("model/unet/model.safetensors", NO_VIDEO),
        ("http://localhost:9/dance.mp4", "no such file or directory"),
        ("concat:dance.mp4|dance.mp4", "no such file or directory"),
        ("x" * 300 + ".mp4", "file name too long"),
        ("", "no ref_pose.jpg"),
        ("/dev/zero", "this is not a file"),
        ("pipe.mp4", "pipe.mp4: this is not a file"),
    ],
)
def test_what_is_no_video_is_refused(here, driving_refused, name, says):
    os.mkfifo(here / "pipe.mp4")
    driving_refused(name, says)


@pytest.mark.parametrize("suffix", [".npz", ".mp4", ".jpg"])
def test_a_video_under_another_name_is_refused(here, driving_refused, suffix):
    source = "dance.mp4" if suffix == ".npz" else "dance.npz"
    (here / f"p{suffix}").write_bytes((here / source).read_bytes())
    driving_refused(f"p{suffix}", f"p{suffix}: ")


def test_a_video_that_shows_nobody_is_refused(here, animate_refused):
    (here / "data").unlink()
    write_networks(here / "data" / "unianimate" / "pose", score=0.0)
    for options, frames in (((), 10), (("--frames", "4"), 4)):
        says = f"dance.mp4: no person is seen in its first {frames} frames; give one that shows"
        animate_refused(*options, driving="dance.mp4", says=says)


def test_a_photo_that_shows_nobody_is_refused(here, refused):
    (here / "data").unlink()
    write_networks(here / "data" / "unianimate" / "pose", score=0.0)
    (here / "photo_pose.npz").unlink()
    refused(
        *("animate", "photo.png", "dance.npz", "-o", "out.mp4", "--model", "model"),
        says="photo.png: no person is seen in it",
    )


@pytest.mark.parametrize("name", ["yolox_l.onnx", "dw-ll_ucoco_384.onnx"])
@pytest.mark.parametrize("content", [None, b"", b"no network"], ids=["none", "empty", "text"])
def test_bad_networks_are_refused(here, driving_refused, name, content):
    folder = here / "data" / "unianimate" / "pose"
    (here / "data").unlink()
    write_networks(folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    driving_refused("dance.mp4", name)


def test_sound_that_is_not_there_is_refused(here, animate_refused):
    animate_refused("--audio", driving="dance.npz", says="dance.npz: this is not a video")
    animate_refused("--audio", driving="dance.mp4", says="dance.mp4: there is no sound in it")
