"""The network of official size from files in the official format to a video, as a user does it."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import official_shapes
from PIL import Image

from unianimate.data import Puppet, probe_video, read_video
from unianimate.models.checkpoints.convert import OFFICIAL_FILES

GIGABYTE = 10**9
CLIP, VAE, UNET = OFFICIAL_FILES


@pytest.fixture
def folder(tmp_path):
    """A folder that goes at once: pytest keeps its own for three runs, and this is 10 GB."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def write_official(part: str, path: Path, prefix: str = "") -> None:
    """Write random weights of the official names and shapes, all pieces of one pool."""
    shapes = official_shapes(part)
    largest = max(torch.Size(shape).numel() for shape in shapes.values())
    pool = torch.randn(largest, generator=torch.Generator().manual_seed(0)) * 0.03
    state = {prefix + k: pool[: torch.Size(s).numel()].view(s) for k, s in shapes.items()}
    torch.save({"state_dict": state}, path)


def unianimate(*arguments: object) -> tuple[float, float]:
    """Run a command; return its seconds of CPU, and the peak memory of all commands so far."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "unianimate", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, after.ru_maxrss * 1024 / GIGABYTE


@pytest.mark.huge
def test_official_files_to_a_video(folder):
    write_official("unet", folder / UNET)
    write_official("clip", folder / CLIP)
    write_official("vae", folder / VAE, prefix="first_stage_model.")
    model, video = folder / "model", folder / "out.mp4"
    converting = unianimate("convert", folder / UNET, folder / CLIP, folder / VAE, "-o", model)

    puppet = Puppet(69, held_out=True)
    photo, standing = puppet.reference(192, 128)
    Image.fromarray(photo).save(folder / "photo.png")
    standing.save(folder / "photo_pose.npz")
    puppet.poses(4, 192, 128).save(folder / "dance.npz")
    size = ("--width", 128, "--height", 192, "--frames", 4, "--steps", 2)
    inputs = (folder / "photo.png", folder / "dance.npz", "-o", video, "--model", model)
    animating = unianimate("animate", *inputs, *size, "--quiet")
    print(f"(seconds of CPU, peak GB so far): convert {converting}, animate {animating}")

    info = probe_video(video)
    assert (info.width, info.height, info.num_frames) == (128, 192, 4)
    assert np.stack(list(read_video(video))).std() > 1
    assert animating[1] < 14
