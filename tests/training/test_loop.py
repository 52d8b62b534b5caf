"""The loop: the same losses, however a run is interrupted, split or spread."""

import math
import signal
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from tiny_run import curve, environment, run, tiny, weights
from torch import nn

from unianimate.training.loop import train
from unianimate.training.run_folder import RunFolder

# a process that kills itself at the n-th call of a function that matters for what is on disk
KILLED = """
import os, signal, sys
from pathlib import Path
from tiny_run import run, tiny
import torch
torch.set_num_threads(1)
where, count, folder, cache = sys.argv[1:]
calls = 0

def deadly(function):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == int(count):
            if where == "write":
                args[0].write(args[1][: len(args[1]) // 2]); args[0].flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

if where == "fsync":
    os.fsync = deadly(os.fsync)
elif where == "rename":
    Path.rename = deadly(Path.rename)
elif where == "step":
    torch.optim.AdamW.step = deadly(torch.optim.AdamW.step)
else:
    from unianimate.training import run_folder
    class HalfLine(run_folder.RunFolder):
        def log(self, record):
            with (self.folder / "log.jsonl").open("a") as file:
                write(file, run_folder.json.dumps(record) + "\\n")
    write = deadly(lambda file, text: file.write(text))
    import unianimate.training.run
    unianimate.training.run.RunFolder = HalfLine
run(Path(folder), tiny(Path(cache)))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, tiny(cache))
    return folder


@pytest.mark.parametrize(
    ("where", "count"),
    [
        pytest.param("fsync", 2),
        pytest.param("fsync", 1, marks=pytest.mark.slow),
        pytest.param("rename", 2, marks=pytest.mark.slow),
        pytest.param("rename", 3, marks=pytest.mark.slow),
        pytest.param("rename", 4, marks=pytest.mark.slow),
        pytest.param("step", 1, marks=pytest.mark.slow),
        pytest.param("step", 4, marks=pytest.mark.slow),
        pytest.param("write", 5, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, cache, whole, where, count):
    command = [sys.executable, "-c", KILLED, where, str(count), str(tmp_path), str(cache)]
    killed = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert run(tmp_path, tiny(cache)) == curve(whole)
    ours, theirs = weights(tmp_path), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_can_be_prolonged(tmp_path, cache, whole):
    run(tmp_path, tiny(cache, steps=4))
    assert run(tmp_path, tiny(cache)) == curve(whole)


def test_a_finished_run_only_writes_its_model_again(tmp_path, cache):
    first = run(tmp_path, tiny(cache, steps=2))
    (tmp_path / "model" / "config.json").unlink()
    assert run(tmp_path, tiny(cache, steps=2)) == first
    assert (tmp_path / "model" / "config.json").is_file()


def test_dropout_is_drawn_again_as_it_was(tmp_path, cache):
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(50))

        def forward(self, batch):
            return {"loss": nn.functional.dropout(self.weight, 0.5).square().sum()}

    from unianimate.data.clips import ClipDataset
    from unianimate.training.batch import TrainingClips
    from unianimate.training.cache import VideoCache

    def losses(folder, *lengths):
        for steps in lengths:
            clips = TrainingClips(ClipDataset(VideoCache(cache), 0, (1,)))
            torch.manual_seed(len(lengths))
            train(Dropped(), clips, tiny(cache, steps=steps), RunFolder(folder), Accelerator())
        return curve(folder)

    run(tmp_path / "made", tiny(cache, steps=1))
    assert losses(tmp_path / "a", 2, 4) == losses(tmp_path / "b", 4)


def test_parts_of_a_batch_add_up_to_the_batch(tmp_path, cache, whole):
    parted = run(tmp_path, tiny(cache, accumulation=2))
    for ours, theirs in zip(parted, curve(whole), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["norm"] == pytest.approx(theirs["norm"], rel=1e-3)


def test_clips_that_cannot_be_shared_out_are_refused(tmp_path, cache):
    with pytest.raises(ValueError, match=r"batch_size \(4\).*processes \(1\) x accumulation \(3\)"):
        run(tmp_path, tiny(cache, accumulation=3))


def test_a_loss_that_is_not_finite_stops_the_run_before_a_checkpoint(tmp_path, cache):
    config = tiny(cache, optimizer__learning_rate=1e30, optimizer__clip=1e30, log_every=1000)
    with pytest.raises(ValueError, match=r"(loss|norm of the gradient) is (nan|inf) at step"):
        run(tmp_path, config)
    last = RunFolder(tmp_path).last()
    assert last is None or all(x.isfinite().all() for x in last.averages.values())


def test_a_run_of_other_parts_does_not_take_over_a_checkpoint(tmp_path, cache):
    run(tmp_path, tiny(cache, steps=2))
    with pytest.raises(ValueError, match=r"checkpoint is of other parameters.*config\.yaml"):
        run(tmp_path, tiny(cache, diffusion__train=r"['unet\.conv_in']"))


def test_the_learning_rate_follows_the_schedule(whole):
    assert [line["rate"] for line in curve(whole)] == pytest.approx([5e-4, *[1e-3] * 5])


def test_the_network_learns(tmp_path, cache):
    lines = run(tmp_path, tiny(cache, steps=40, data__count=3, save_every=40, log_every=1))
    start, end = ([line["loss"] for line in part] for part in (lines[:5], lines[-5:]))
    assert sum(end) < 0.97 * sum(start)
    assert all(math.isfinite(line["loss"]) for line in lines)
