import pytest
import yaml
from command import run
from tiny_run import PRESET, curve


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(PRESET | {"steps": 2, "batch_size": 1}))
    return path


def test_a_run_is_trained_and_named(monkeypatch, capsys, tmp_path, settings):
    status, out, err = run(
        monkeypatch, capsys, "train", settings, "-o", tmp_path / "run", "--set", "log_every=2"
    )
    assert (status, out) == (0, f"{tmp_path / 'run' / 'model'}: trained for 2 steps\n")
    assert "steps" in err
    assert [line["step"] for line in curve(tmp_path / "run")] == [2]
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_recipes_are_listed_and_shown_whole(monkeypatch, capsys, settings):
    status, out, _ = run(monkeypatch, capsys, "train", "--list")
    assert status == 0 and "small\n" in out and "unianimate-lora\n" in out
    status, out, _ = run(
        monkeypatch, capsys, "train", settings, "--recipe", "small", "--set", "seed=4", "--show"
    )
    shown = yaml.safe_load(out)
    assert (status, shown["seed"], shown["steps"], shown["model"]) == (0, 4, 2, "test")
    assert shown["diffusion"]["timestep_shift"] == 3.0


def test_a_video_is_laid_over_its_recipe(monkeypatch, capsys):
    status, out, _ = run(
        monkeypatch,
        capsys,
        "train",
        "--video",
        "a.mp4",
        "--poses",
        "a.npz",
        "--every",
        "3",
        "--show",
    )
    data = yaml.safe_load(out)["data"]
    assert status == 0 and (data["kind"], data["path"], data["poses"]) == (
        "video",
        "a.mp4",
        "a.npz",
    )
    assert (data["video_frames"], data["strides"]) == (100, [3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "smal"], "no recipe 'smal'"),
        (["--set", "stpes=3"], "unknown setting 'stpes'; did you mean 'steps'?"),
        (["--set", "steps"], "--set wants name=value, got 'steps'"),
        (["none.yaml"], "none.yaml: cannot be read"),
        (["--video", "a.mp4"], "--video and --poses go together"),
        (["--poses", "a.npz"], "--video and --poses go together"),
        (["--video", "a.mp4", "--poses", "a.npz", "--set", "model=none"], "no model 'none'"),
        (["--every", "2"], "--every is about one video: give --video too"),
        (["--set", "data.kind=folder"], "data.path: name the folder of the videos"),
    ],
)
def test_what_the_user_can_mend_is_said_in_one_line(
    monkeypatch, capsys, tmp_path, settings, arguments, message
):
    monkeypatch.chdir(tmp_path)
    if arguments[-1] == "data.kind=folder":
        arguments = [str(settings), *arguments]
    status, out, err = run(monkeypatch, capsys, "train", "--quiet", *arguments)
    assert (status, out) == (2, "")
    assert message in err and err.count("\n") == 1 and err.startswith("unianimate: ")


def test_one_video_is_fitted_by_one_process(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = run(monkeypatch, capsys, "train", "--video", "a.mp4", "--poses", "a.npz")
    assert status == 2 and "start it without torchrun" in err
