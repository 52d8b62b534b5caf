"""Processes that share the windows of every step."""

import os
import socket
import subprocess
import sys
from typing import Any

import pytest
import torch

from unianimate.pipelines import plan_windows
from unianimate.pipelines.distributed import ALONE, Processes, torchrun_processes

# the work of each process; the test itself runs it too, alone
WORK = """
import torch
from unianimate.blocks import NoiseScheduler
from unianimate.pipelines import denoise, plan_windows
from unianimate.pipelines.distributed import ALONE, torchrun_processes

def work(processes, fail_at=None):
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 4, generator=generator) / 4
    # processes need not start alike: all take the first one's noise
    start = torch.randn(1, 4, 23, 6, 5, generator=generator) + processes.rank
    scheduler = NoiseScheduler()
    scheduler.set_timesteps(6)
    seen = []

    def predict(latents, timestep, frames):
        if fail_at is not None and processes.rank == 1 and len(seen) == fail_at:
            raise RuntimeError("process 1 fails")
        seen.append(frames)
        mixed = torch.einsum("dc,bcfhw->bdfhw", mix, latents)
        return (mixed + mixed.mean(2, keepdim=True)).half(), 0.5 * mixed

    video = denoise(predict, start, scheduler, windows=plan_windows(23, 8, 3), eta=0.5,
                    generator=generator, processes=processes)
    return video, seen
"""

SHARE = """
import sys
with torchrun_processes() as processes:
    video, seen = work(processes)
torch.save({"video": video, "seen": seen}, f"{sys.argv[1]}/{processes.rank}.pt")
"""

FAIL = """
import sys
from pathlib import Path
with torchrun_processes() as processes:
    work(processes, fail_at=3)
Path(sys.argv[1], f"{processes.rank}.done").touch()
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


def script(tmp_path, program: str) -> list[str]:
    (tmp_path / "work.py").write_text(WORK + program)
    return [str(tmp_path / "work.py"), str(tmp_path)]


def test_processes_share_the_windows_and_all_get_the_bits_of_one_alone(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # what torchrun sets; it would import torch once more
    rendezvous = {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
    }
    command = [sys.executable, *script(tmp_path, SHARE)]
    running = [
        subprocess.Popen(command, env=environment(**rendezvous, RANK=rank, LOCAL_RANK=rank))
        for rank in ("0", "1")
    ]
    scope: dict[str, Any] = {}
    exec(WORK, scope)
    alone, seen = scope["work"](ALONE)
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(first["video"], alone) and torch.equal(second["video"], alone)
    plan = plan_windows(23, 8, 3)
    steps = len(seen) // len(plan)
    assert seen == list(plan) * steps
    assert first["seen"] == list(plan[0::2]) * steps
    assert second["seen"] == list(plan[1::2]) * steps


@pytest.mark.slow
def test_when_one_process_fails_torchrun_ends_all(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node=2", *script(tmp_path, FAIL)],
        env=environment(),
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
