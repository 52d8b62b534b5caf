"""A photo and poses to video, end to end: by stage, by way, by steps, by processes."""

import gc
import json
import os
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.mamba_ssm_layout import randomise
from benchmarks.records import Record
from benchmarks.stages import StageClock
from unianimate.models import PRESETS, UniAnimate
from unianimate.models.devices import default_dtype
from unianimate.pipelines import AnimatePipeline
from unianimate.profiling import peak_bytes

MODEL = {"smoke": "test", "cpu": "small", "gpu": "unianimate-v1"}


class RandomPoses:
    """Poses without meaning: the cost does not depend on them."""

    fps = 8.0

    def __init__(self, num_frames, width, height):
        self.num_frames, self._shape = num_frames, (height, width, 3)

    def reference(self):
        return np.full(self._shape, 127, dtype=np.uint8)

    def read(self, frames):
        return iter([self.reference() for _ in frames])


def cases(scale):
    """Return (way, frames, steps)."""
    if scale == "smoke":
        return [(way, 6, 2) for way in ("window", "chain", "single")]
    frames, steps = (28, (4, 8)) if scale == "cpu" else (56, (5, 20))
    ways = [(way, frames, steps[0]) for way in ("window", "chain", "single")]
    return [*ways, ("window", frames, steps[1])]


@lru_cache(maxsize=1)
def pipeline(name, device):
    """Return a pipeline with random weights."""
    torch.manual_seed(0)
    with device:
        model = UniAnimate(PRESETS[name])
    randomise(model)
    model.unet.to(default_dtype(device))
    return AnimatePipeline(model.eval().requires_grad_(False))


def bench_pipeline(run, case):
    way, frames, steps = case
    name = MODEL[run.scale]
    maker = pipeline(name, run.device)
    config = maker.model.config
    photo = Image.new("RGB", (config.width, config.height), (120, 80, 40))
    poses = RandomPoses(frames, config.width, config.height)

    def make(steps=steps):
        count = sum(1 for _ in maker.stream(photo, poses, long=way, num_inference_steps=steps))
        assert count == frames

    gc.collect()
    clock = StageClock(run.device)
    on_gpu = run.device.type == "cuda"
    if on_gpu:
        make(1)  # so that Triton has compiled what it takes
    else:
        peak = peak_bytes(make)  # counting takes time, the allocator's does not
    start = time.perf_counter()
    with clock.watching(maker.model):
        if on_gpu:
            peak = peak_bytes(make, run.device)
        else:
            make()
    seconds = time.perf_counter() - start
    size = f"{config.width}x{config.height}"
    clock.seconds["the rest"] = seconds - sum(clock.seconds.values())
    run.add(
        Record(
            section="pipeline",
            group=f"pipeline, {name}, {size}, {frames} frames, {steps} steps",
            form=way,
            seconds=seconds,
            low=seconds,
            high=seconds,
            rounds=1,
            frames=frames,
            peak_bytes=peak,
            note="one run",
            extra={"stages": {stage: round(t, 4) for stage, t in clock.seconds.items()}},
        )
    )


def bench_processes(run):
    counts = [1, torch.cuda.device_count() if run.device.type == "cuda" else 2]
    if run.smoke:
        counts = [1]
    for count in dict.fromkeys(counts):
        add_processes(run, count)


def add_processes(run, count):
    """Time the denoising loop of a long video in several processes, started by torchrun."""
    name = MODEL[run.scale]
    threads = max(1, torch.get_num_threads() // count)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={count}", str(Path(__file__).with_name("share_windows.py"))),
            *(name, "6" if run.smoke else "28", "1" if run.smoke else "2"),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": str(threads),
        },
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(done.stderr[-2000:])
    told = json.loads(done.stdout.splitlines()[-1])
    run.add(
        Record(
            section="pipeline",
            group=f"denoising in windows, {name}, {told['frames']} frames, {told['steps']} steps",
            form=f"{count} process{'es' if count > 1 else ''} of {threads} threads",
            seconds=told["seconds"],
            low=told["seconds"],
            high=told["seconds"],
            rounds=1,
            frames=told["frames"],
            note="one run",
        )
    )
