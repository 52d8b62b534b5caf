import json

import pytest
from command import run

TINY = ("--dim", "32", "--size", "2x3", "--frames", "2,4", "--device", "cpu")


def test_profile_shows_time_and_memory_of_every_mixer(monkeypatch, capsys):
    status, out, err = run(monkeypatch, capsys, "profile", *TINY)
    assert status == 0
    for word in ("transformer", "mamba", "mamba2", "MiB", "32 channels at 2x3"):
        assert word in out
    assert err.count(" frames: ") == 6


def test_profile_as_json(monkeypatch, capsys):
    arguments = (*TINY, "--mode", "checkpointed", "--dtype", "float32", "--json")
    status, out, _ = run(monkeypatch, capsys, "profile", *arguments)
    report = json.loads(out)
    assert status == 0
    assert report["dtype"] == "float32"
    assert [cost["frames"] for cost in report["costs"]] == [2, 2, 2, 4, 4, 4]
    assert all(cost["seconds"] > 0 and cost["peak_bytes"] > 0 for cost in report["costs"])
    assert set(report["faster_than_transformer_from"]) == {"mamba", "mamba2"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--size", "96"), "--size must be like 96x64, got '96'"),
        (("--frames", "17,x"), "--frames must be like 17,33,65, got '17,x'"),
        (("--dim", "33"), "dim must be a multiple of 32, got 33"),
        (("--mode", "sleep"), "--mode must be inference, training or checkpointed"),
        (("--device", "tpu"), "--device must be cpu or cuda"),
        (("--dtype", "int8"), "--dtype must be float32, bfloat16, float16"),
    ],
)
def test_a_mistake_is_one_line(monkeypatch, capsys, arguments, says):
    status, out, err = run(monkeypatch, capsys, "profile", *TINY, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err
