"""Properties of a whole sampling loop with a real network, in float32 latents."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command import run
from small_run import photo, random_pose, small_model

from unianimate.data import read_video
from unianimate.models import UniAnimate
from unianimate.pipelines import AnimatePipeline, Window, make_scheduler
from unianimate.pipelines.checkpoint import Nowhere
from unianimate.pipelines.distributed import Processes
from unianimate.pose import DrawnPoses, align_pose

# diffusers calls numpy on tensors in a way that numpy 2 announces the end of
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Recorder(Nowhere):
    """In place of a checkpoint: remembers the latents after every step."""

    def __init__(self) -> None:
        self.latents: list[torch.Tensor] = []

    def open(self, run: object) -> None:
        """Do nothing."""

    def save(self, state) -> None:
        self.latents.append(state.latents.clone())


@pytest.fixture(scope="module")
def model() -> UniAnimate:
    return small_model()


@pytest.fixture(scope="module")
def poses() -> DrawnPoses:
    reference = random_pose(1, 1)
    return DrawnPoses(align_pose(random_pose(9, 2), reference), reference)


def loop(pipeline: AnimatePipeline, poses: DrawnPoses, **options) -> torch.Tensor:
    """Return the latents after every step."""
    recorder = Recorder()
    pipeline(photo(), poses, checkpoint=recorder, **options)
    return torch.stack(recorder.latents)


@pytest.mark.parametrize("name", ["ddim", "dpm++"])
def test_guidance_in_one_batch_or_two_passes_agree_to_1e_4(model, poses, name):
    pipeline = AnimatePipeline(model, make_scheduler(name))
    one, two = (loop(pipeline, poses, low_memory=m, guidance_scale=2.5) for m in (False, True))
    assert one.dtype == torch.float32
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_random_draws_do_not_depend_on_the_grouping(model, poses):
    """The network's part is taken out: what is left of a run is its draws."""

    class Draws:
        """Moves nothing, but adds noise at every step."""

        def set_timesteps(self, steps: int) -> None:
            self.timesteps = torch.arange(steps - 1, -1, -1)

        def step(self, prediction, timestep, sample, *, generator=None):
            noise = torch.randn(sample.shape, generator=generator)
            return SimpleNamespace(prev_sample=sample + noise)

    ways = [
        (Window(4, 1), False, 1.0),
        (Window(3, 2), True, 2.5),
        (Window(9, 0), False, 2.5),
    ]
    runs = [
        loop(AnimatePipeline(model, Draws()), poses, long=way, low_memory=low, guidance_scale=scale)
        for way, low, scale in ways
    ]
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])


def test_guidance_1_calls_the_network_once_on_one_item(model, poses):
    batches = []
    hook = model.unet.register_forward_pre_hook(lambda net, args: batches.append(len(args[0])))
    pipeline = AnimatePipeline(model)
    try:
        for scale, low in ((1.0, False), (2.0, False), (2.0, True)):
            options = {"num_inference_steps": 4, "num_frames": 4}
            pipeline(photo(), poses, guidance_scale=scale, low_memory=low, **options)
            batches.append(0)
    finally:
        hook.remove()
    calls = "".join(map(str, batches)).split("0")
    assert set(calls[0]) == {"1"} and set(calls[1]) == {"2"} and set(calls[2]) == {"1"}
    assert len(calls[0]) == len(calls[1]) == len(calls[2]) / 2


@pytest.mark.parametrize("long", ["window", "chain"])
def test_a_second_order_solver_takes_half_the_steps_in_every_segment(model, poses, long):
    pipeline = AnimatePipeline(model, make_scheduler("dpm++"))
    assert (pipeline.default_steps, AnimatePipeline(model).default_steps) == (2, 4)
    steps = []
    first = pipeline(photo(), poses, long=long, progress=lambda *step: steps.append(step))
    assert len(first) == 9
    assert len(steps) == steps[-1][1] == {"window": 2, "chain": 6}[long]
    np.testing.assert_array_equal(first, pipeline(photo(), poses, long=long))


@pytest.mark.parametrize("long", ["chain", "single"])
def test_several_processes_need_windows_to_share(model, poses, long):
    pipeline = AnimatePipeline(model, processes=Processes(0, 2))
    with pytest.raises(ValueError, match=r"2 processes can share windows only: choose .*'window'"):
        pipeline(photo(), poses, long=long)


@pytest.fixture
def files(tmp_path, model):
    model.save_pretrained(tmp_path / "model")
    photo().save(tmp_path / "photo.png")
    random_pose(9, 2).save(tmp_path / "dance.npz")
    random_pose(1, 1).save(tmp_path / "photo_pose.npz")
    return tmp_path


def arguments(files, output: str, *options: str) -> list[str]:
    inputs = [files / "photo.png", files / "dance.npz", "-o", files / output]
    return ["animate", *map(str, inputs), "--model", str(files / "model"), *options]


def test_the_command_takes_a_scheduler_by_name(files, monkeypatch, capsys):
    for name in ("ddim", "dpm++"):
        options = ("--scheduler", name, "--frames", "4", "--quiet")
        status, _, err = run(monkeypatch, capsys, *arguments(files, f"{name}.mp4", *options))
        assert (status, err) == (0, "")
    ddim, dpm = (np.stack(list(read_video(files / f"{n}.mp4"))) for n in ("ddim", "dpm++"))
    assert (ddim != dpm).any()
    status, _, err = run(monkeypatch, capsys, *arguments(files, "x.mp4", "--scheduler", "euler"))
    assert (status, err.count("\n")) == (2, 1)
    assert "must be one of ddim, dpm++, got 'euler'" in err


@pytest.mark.slow
def test_torchrun_makes_the_video_of_one_process(files, monkeypatch, capsys):
    status, _, _ = run(monkeypatch, capsys, *arguments(files, "alone", "--quiet"))
    assert status == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [*launcher, "-m", "unianimate", *arguments(files, "together", "--quiet", "--json")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"frames": 9') == 1
    names = sorted(path.name for path in (files / "alone").iterdir())
    assert names == sorted(path.name for path in (files / "together").iterdir())
    for name in names:
        assert (files / "alone" / name).read_bytes() == (files / "together" / name).read_bytes()
    assert not list(files.glob(".*unfinished"))

    refused = subprocess.run(
        [*launcher, "-m", "unianimate", *arguments(files, "chain.mp4", "--long", "chain")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0
    assert "2 processes can share windows only" in refused.stderr
    assert not list(files.glob("*chain*"))
