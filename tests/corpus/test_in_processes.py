"""A few of the refusals in processes of their own, as a user meets them."""

import os
import sys

import pytest
from listing import listing
from processes import start

COMMAND = ("animate", "photo.png", "dance.npz", "-o", "out.mp4", "--model", "model")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="uses /dev/full and limits")


def refusal(here, *arguments, **limits) -> str:
    before = listing(here)
    process = start(here, *arguments, **limits)
    process.join(100)
    assert process.exitcode == 2
    line = (here / "err").read_text()
    assert line.count("\n") == 1
    assert (here / "out").read_text() == ""
    (here / "err").unlink(), (here / "out").unlink()
    assert listing(here) == before
    return line


def test_files_that_are_no_files(here):
    os.mkfifo(here / "pipe.png")
    line = refusal(here, "animate", "pipe.png", *COMMAND[2:])
    assert line.startswith("unianimate: pipe.png: this is not a file")


def test_a_truncated_model(here, good):
    (here / "model").unlink()
    (here / "model" / "unet").mkdir(parents=True)
    (here / "model" / "config.json").write_bytes((good / "model" / "config.json").read_bytes())
    weights = (good / "model" / "unet" / "model.safetensors").read_bytes()
    (here / "model" / "unet" / "model.safetensors").write_bytes(weights[:1000])
    assert "truncated, or not a file of weights (1,000 bytes)" in refusal(here, *COMMAND)


def test_a_disk_with_too_little_room(here):
    # the system's own limit on the size of a file stands for it
    line = refusal(here, *COMMAND, "--steps", "1", "--frames", "2", max_file_size=3000)
    assert "file too large; choose another place or name" in line
