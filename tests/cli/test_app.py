import json
import subprocess
import sys

import pytest
from command import run


def test_info_shows_every_op_and_why_a_backend_is_off(monkeypatch, capsys):
    status, out, _ = run(monkeypatch, capsys, "info")
    assert status == 0
    for word in ("bidirectional_selective_scan", "geglu", "torch", "native cpu", "mamba-ssm"):
        assert word in out


def test_info_as_json_has_every_op_and_backend(monkeypatch, capsys):
    status, out, _ = run(monkeypatch, capsys, "info", "--json")
    report = json.loads(out)
    assert status == 0
    assert report["backends"]["geglu"]["reference"]["cpu"] is None
    assert set(report["backends"]["geglu"]) == {"native", "triton", "reference"}


def test_a_mistake_is_one_line_and_status_2(monkeypatch, capsys, tmp_path):
    status, out, err = run(
        monkeypatch, capsys, "pose", "align", tmp_path / "no.npz", "-r", "x", "-o", "y.npz"
    )
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "no.npz" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "No such command 'nonsense': see `unianimate --help`"),
        (["info", "--nonsense"], "No such option: --nonsense: see `unianimate info --help`"),
        (["pose", "draw"], "see `unianimate pose draw --help`"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(monkeypatch, capsys, arguments, says):
    status, out, err = run(monkeypatch, capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


@pytest.mark.parametrize("arguments", [[], ["pose"]])
def test_no_command_shows_the_help(monkeypatch, capsys, arguments):
    _, out, err = run(monkeypatch, capsys, *arguments)
    assert "Usage" in out + err and "--help" in out + err


def test_the_installed_command_answers(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "unianimate", "--version"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("unianimate 0.")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_lack_of_memory_is_one_line_and_status_2(monkeypatch, capsys, error):
    def fail():
        raise error

    monkeypatch.setattr("unianimate_kernels.info.report", fail)
    status, out, err = run(monkeypatch, capsys, "info")
    assert (status, out) == (2, "")
    assert err == "unianimate: out of memory: choose a smaller size or fewer frames at once\n"


def test_an_error_of_ours_is_not_hidden(monkeypatch, capsys):
    def fail():
        raise RuntimeError("a bug")

    monkeypatch.setattr("unianimate_kernels.info.report", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run(monkeypatch, capsys, "info")
