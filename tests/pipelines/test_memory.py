"""What a long video takes in memory: for window and chain, no more than a short one."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unianimate.data import Puppet
from unianimate.models import PRESETS, UniAnimate
from unianimate.pipelines import AnimatePipeline
from unianimate.pose import DrawnPoses
from unianimate.profiling.memory import peak_bytes


@pytest.fixture(scope="module")
def pipeline() -> AnimatePipeline:
    torch.manual_seed(0)
    config = replace(PRESETS["test"], num_frames=8, steps=1, guidance=1.0)
    return AnimatePipeline(UniAnimate(config).eval())


@pytest.fixture(scope="module")
def inputs() -> tuple[Image.Image, DrawnPoses]:
    puppet = Puppet(0)
    photo, standing = puppet.reference(48, 32)
    return Image.fromarray(photo), DrawnPoses(puppet.poses(64, 48, 32), standing)


def peak(pipeline, inputs, **options) -> int:
    def make_and_drop():
        for _ in pipeline.stream(*inputs, **options):
            pass

    return peak_bytes(make_and_drop)


@pytest.mark.parametrize(("long", "copies"), [("window", 8), ("chain", 0)])
def test_four_times_the_frames_take_the_memory_of_their_latents(pipeline, inputs, long, copies):
    short, long_ = (peak(pipeline, inputs, long=long, num_frames=n) for n in (16, 64))
    latents = 4 * 6 * 4 * 4  # channels, height, width and bytes of one frame
    assert long_ - short <= copies * latents * 48
    # a picture of float32 is 48 times as large as its latents: pictures that pile up would show
    assert short > 100 * latents


def test_single_takes_memory_for_every_frame(pipeline, inputs):
    short, long = (peak(pipeline, inputs, long="single", num_frames=n) for n in (8, 32))
    assert long > 2.5 * short


# a process of its own, so that its peak of resident memory is its own
PROGRAM = """
import json, re, sys, torch
from dataclasses import replace
from pathlib import Path
from PIL import Image
from unianimate.data import Puppet, VideoWriter
from unianimate.models import PRESETS, UniAnimate
from unianimate.pipelines import AnimatePipeline
from unianimate.pose import DrawnPoses
from unianimate.profiling.memory import peak_bytes

def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status).group(1)) / 1024

long, folder, width, height = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5])
torch.set_num_threads(1)
torch.manual_seed(0)
# few channels of latents, of which a window keeps some copies, against all that is a picture
small = PRESETS["small"]
unet = replace(small.unet, in_channels=4, out_channels=4)
model = UniAnimate(replace(small, unet=unet, vae={**small.vae, "latent_channels": 4})).eval()
pipeline = AnimatePipeline(model)
puppet = Puppet(0)
photo, standing = puppet.reference(height, width)
poses = DrawnPoses(puppet.poses(1024, height, width), standing)
peaks = []
# the first video loads libraries (of the codec, too), whose pages count as resident
for frames in (64, 64, 1024):
    with VideoWriter(folder / f"{frames}.mp4", 8) as writer:
        for frame in pipeline.stream(Image.fromarray(photo), poses, num_frames=frames, long=long,
                                     width=width, height=height, num_inference_steps=1):
            writer.write(frame)
    peaks.append(peak())
print(json.dumps(peaks[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's VmHWM")
@pytest.mark.parametrize("long", ["window", "chain"])
def test_1024_frames_take_the_memory_of_64(tmp_path, long):
    # the small model; pictures that are kept would take 75 MB as float32, encoded poses far more
    command = [sys.executable, "-c", PROGRAM, long, str(tmp_path), "64", "96"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    short, long_ = json.loads(done.stdout)
    print(f"{long}: {short:.0f} MB at 64 frames, {long_:.0f} MB at 1024")
    assert long_ - short < 40


def test_low_memory_is_lower_and_equal(inputs):
    # wide and deep enough that the network, not the encoder of poses, takes most, as at full size
    unet = PRESETS["test"].unet
    levels = tuple(replace(level, channels=640) for level in unet.levels)
    wide = replace(unet, dim=640, levels=levels, condition_channels=4)
    torch.manual_seed(0)
    model = UniAnimate(replace(PRESETS["test"], unet=wide, num_frames=8, steps=1)).eval()
    options = {"num_frames": 8, "guidance_scale": 2.5}
    usual, low = (
        peak(AnimatePipeline(model), inputs, low_memory=m, **options) for m in (False, True)
    )
    assert low < 0.7 * usual
    a, b = (AnimatePipeline(model)(*inputs, low_memory=m, **options) for m in (False, True))
    assert np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_low_memory_on_a_gpu_holds_one_part_at_a_time(inputs):
    # by where the weights are: of so small a model the workspaces of cuBLAS and cuDNN take more
    size = {"num_frames": 8, "width": 96, "height": 128}
    options = {"guidance_scale": 2.5, "num_inference_steps": 2}
    held, videos = [], []
    for low in (False, True):
        torch.manual_seed(0)
        model = UniAnimate(PRESETS["small"]).eval()
        held.append(parts_on_the_gpu(model))
        pipeline = AnimatePipeline(model.offload("cuda") if low else model.to("cuda"))
        videos.append(pipeline(*inputs, **size, **options, low_memory=low).astype(int))
    assert held[0] == {("image_encoder", "unet", "vae")}
    assert held[1] == {("image_encoder",), ("unet",), ("vae",)}
    assert np.abs(videos[0] - videos[1]).max() <= 2


def parts_on_the_gpu(model) -> set[tuple[str, ...]]:
    """Return a set that comes to hold which parts are on the GPU whenever a layer computes."""
    parts = {name: getattr(model, name) for name in ("image_encoder", "unet", "vae")}
    held: set[tuple[str, ...]] = set()

    def look(*_):
        held.add(tuple(n for n, part in parts.items() if next(part.parameters()).is_cuda))

    for part in parts.values():
        for layer in part.modules():
            layer.register_forward_pre_hook(look)
    return held
