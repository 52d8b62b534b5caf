"""Processes that share the windows of every step."""

import os
import subprocess
import sys

import pytest
import torch
from processes import in_two_processes
from shared_windows import FRAMES, OVERLAP, SIZE, make, share

from unianimate.pipelines import plan_windows
from unianimate.pipelines.distributed import ALONE, Processes, torchrun_processes

FAIL = """
import sys
from pathlib import Path
import torch
from shared_windows import make, torchrun_processes
torch.set_num_threads(1)
with torchrun_processes() as processes:
    make(processes, fail_at=3)
Path(sys.argv[1], f"{processes.rank}.done").touch()
"""


def test_processes_share_the_windows_and_all_get_the_bits_of_one_alone(tmp_path):
    in_two_processes(share, tmp_path, TORCHELASTIC_RUN_ID="test")
    alone = make(ALONE)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(first["video"], alone["video"])
    assert torch.equal(second["video"], alone["video"])
    plan = plan_windows(FRAMES, SIZE, OVERLAP)
    steps = len(alone["seen"]) // len(plan)
    assert alone["seen"] == list(plan) * steps
    assert first["seen"] == list(plan[0::2]) * steps
    assert second["seen"] == list(plan[1::2]) * steps


@pytest.mark.slow
def test_when_one_process_fails_torchrun_ends_all(tmp_path):
    (tmp_path / "work.py").write_text(FAIL)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node=2", str(tmp_path / "work.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "process 1 fails" in done.stderr
    assert list(tmp_path.glob("*.done")) == []


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with torchrun_processes() as processes:
        assert (processes, processes.is_first) == (Processes(0, 1), True)
