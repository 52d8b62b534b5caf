"""Two processes train what one does with the same clips, however they share the work."""

import shutil
import subprocess
import sys

import pytest
import torch
from processes import in_two_processes
from tiny_run import curve, environment, run, tiny, two_networks, weights

from unianimate.models import UniAnimate
from unianimate.training.start import start_model

# settings of a run for each way to share the work
WAYS = {
    "whole": {},
    "spread": {"sharded": True, "sample_every": 2, "samples": 1},
    "muon": {"optimizer__kind": "muon"},
}


@pytest.fixture(scope="module", params=WAYS)
def kind(request):
    """How two processes share the work: weights whole in each or spread, matrices shared out."""
    return request.param


@pytest.fixture(scope="module")
def optimizer(kind):
    """The setting of the optimizer."""
    return {"optimizer__kind": "muon" if kind == "muon" else "adamw"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cache, optimizer):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    run(folder, tiny(cache, steps=2, **optimizer))
    return folder


@pytest.fixture(scope="module")
def shared(kind, tmp_path_factory, cache, alone):
    """The same run by two processes."""
    folder = tmp_path_factory.mktemp(kind)
    config = tiny(cache, steps=2, gradient_checkpointing=True, **WAYS[kind])
    in_two_processes(run, folder, config, ACCELERATE_USE_CPU="true")
    return folder


@pytest.mark.slow
def test_two_processes_train_as_one_and_one_goes_on(shared, alone, optimizer, cache, tmp_path):
    lines = [line for line in curve(shared) if "loss" in line]
    for ours, theirs in zip(lines, curve(alone)[:2], strict=True):
        assert ours == pytest.approx(theirs, rel=2e-4)
    states = [
        UniAnimate.from_pretrained(folder / "model", device="cpu", dtype=torch.float32).state_dict()
        for folder in (shared, alone)
    ]
    for name in states[0]:
        # Adam's first steps have the sign of the gradient, which rounding decides near zero
        assert (states[0][name] - states[1][name]).float().abs().mean() < 2e-5, name
    # with the optimizer's state: another one would take another step
    further = shutil.copytree(alone, tmp_path / "further")
    lines, wanted = (run(folder, tiny(cache, steps=3, **optimizer)) for folder in (shared, further))
    assert lines[-1] == pytest.approx(wanted[-1], rel=5e-4)
    ours, theirs = weights(shared), weights(further)
    assert all((ours[name] - x).abs().mean() < 5e-5 for name, x in theirs.items())
    sampled = [line["step"] for line in lines if "sample/psnr" in line]
    assert sampled == ([2] if "spread" in shared.name else [])


@pytest.mark.slow
def test_two_processes_train_a_model_whose_parameters_are_not_all_used(tmp_path, cache):
    start_model(tiny()).save_pretrained(tmp_path / "start")
    config = tiny(cache, steps=2, model=tmp_path / "start")
    in_two_processes(two_networks, config, tmp_path / "run", ACCELERATE_USE_CPU="true")
    assert [line["step"] for line in curve(tmp_path / "run")] == [1, 2]
    assert (tmp_path / "run" / "model" / "config.json").is_file()


@pytest.mark.slow
def test_torchrun_starts_the_command(tmp_path, cache):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    settings = [f"--set={name}={value}" for name, value in flat(tiny(cache, steps=2))]
    done = subprocess.run(
        [*torchrun, "-m", "unianimate", "train", "-o", str(tmp_path), *settings],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained for 2 steps") == 1
    assert [line["step"] for line in curve(tmp_path)] == [1, 2]


def flat(config):
    """Return what differs from the defaults of the command, as it takes it."""
    data = config.to_dict()
    for name in ("model", "steps", "batch_size", "precision", "log_every"):
        yield name, data[name]
    for name in ("cache", "count", "video_frames", "frames", "strides", "workers"):
        yield f"data.{name}", data["data"][name]
