import os
from pathlib import Path

import pytest
import torch
from tiny_run import tiny

from unianimate.training.config import load_config
from unianimate.training.run_folder import Checkpoint, RunFolder


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"w": torch.full((2,), float(step))}, {}, {"state": {}})


def test_the_newest_checkpoints_are_kept(tmp_path):
    run = RunFolder(tmp_path, keep=2)
    assert run.last() is None
    for step in (5, 100, 20000):
        run.save(checkpoint(step))
    assert run.last().step == 20000 and run.last().weights["w"].tolist() == [20000.0] * 2
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-00000100",
        "step-00020000",
    ]


def test_a_file_that_torch_cannot_write_is_an_error_of_the_disk(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("PytorchStreamWriter failed writing file data/7: file write failed")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match=r"step-00000001: the checkpoint could not be .* make room"):
        RunFolder(tmp_path).save(checkpoint(1))


@pytest.mark.parametrize("broken", ["save", "fsync", "rename"])
def test_a_checkpoint_is_there_whole_or_not_at_all(tmp_path, monkeypatch, broken):
    run = RunFolder(tmp_path)
    run.save(checkpoint(1))

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(
            *{"save": (torch, "save"), "fsync": (os, "fsync")}.get(broken, (Path, "rename")), fail
        )
        with pytest.raises(OSError, match="no space"):
            run.save(checkpoint(2))
    assert run.last().step == 1
    left = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert broken == "rename" or left == ["step-00000001"]
    run.save(checkpoint(2))
    assert run.last().step == 2


def test_checkpoints_written_before_there_was_a_scaler_are_read(tmp_path):
    run = RunFolder(tmp_path)
    run.save(checkpoint(3))
    path = tmp_path / "checkpoints" / "step-00000003" / "state.pt"
    content = torch.load(path)
    del content["scaler"]
    torch.save(content, path)
    assert (run.last().step, run.last().scaler) == (3, {})


def test_half_a_line_is_no_line(tmp_path):
    run = RunFolder(tmp_path)
    assert run.records() == []
    for step in (1, 2, 3):
        run.log({"step": step, "loss": step / 2})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert [line["step"] for line in run.records()] == [1, 2, 3]
    run.forget_log_after(2)
    run.log({"step": 3, "loss": 0.1})
    assert [line["loss"] for line in run.records()] == [0.5, 1.0, 0.1]


def test_the_configuration_is_written_to_be_read(tmp_path):
    run = RunFolder(tmp_path)
    config = tiny(steps=7, temporal="mamba")
    run.write_config(config)
    assert load_config({}, tmp_path / "config.yaml") == config
