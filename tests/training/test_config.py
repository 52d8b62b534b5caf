import pytest
import yaml

from unianimate.training.config import TrainConfig, load_config
from unianimate.training.recipes import read_recipe, recipe_names


@pytest.fixture
def overlay(tmp_path):
    def write(text: str):
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        return path

    return write


def test_a_file_lies_over_the_preset_and_single_settings_over_both(overlay):
    preset = {"steps": 5, "optimizer": {"warmup": 7, "learning_rate": 1.0}}
    path = overlay("optimizer: {learning_rate: 0.5}\nbatch_size: 3\n")
    config = load_config(preset, path, {"optimizer.learning_rate": "1e-4", "data.frames": "[4, 8]"})
    assert (config.steps, config.batch_size, config.optimizer.warmup) == (5, 3, 7)
    assert config.optimizer.learning_rate == 1e-4
    assert config.data.frames == (4, 8)
    assert preset == {"steps": 5, "optimizer": {"warmup": 7, "learning_rate": 1.0}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stpes: 3", "settings.yaml: unknown setting 'stpes'; did you mean 'steps'"),
        ("optimizer: {learning_rat: 3}", "'learning_rat'; did you mean 'learning_rate'"),
        ("zzz: 3", "unknown setting 'zzz'; known are stage, model"),
        ("optimizer: 3", "optimizer must hold settings, got 3"),
        ("", "must hold settings .*, got None"),
        ("a: [", "settings.yaml: cannot be read as YAML"),
        ("steps: many", "^steps: .*integer.*, got 'many'"),
        ("steps: 0", "^steps: .*greater than or equal to 1, got 0"),
        ("stage: sleep", "^stage: .*'vae', 'diffusion' or 'distill', got 'sleep'"),
        ("data: {frames: [4, none]}", r"^data\.frames\.1: .*, got 'none'"),
        ("diffusion: {drop: 1.5}", r"^diffusion\.drop: .*less than or equal to 1, got 1\.5"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_line(overlay, text, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_config({}, overlay(text))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer.clp", "1", "optimizer.clp: unknown setting 'clp'; did you mean 'clip'"),
        ("data", "1", "data must hold settings, got 1"),
        ("steps", "[", "steps: cannot be read as YAML"),
    ],
)
def test_what_is_wrong_with_a_single_setting_is_said_in_one_line(name, value, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_config({}, settings={name: value})
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.yaml: cannot be read"):
        load_config({}, tmp_path / "none.yaml")


def test_what_is_written_is_read_again(overlay):
    config = load_config({"steps": 3, "data": {"frames": [2]}, "diffusion": {"snr_gamma": 5}})
    assert load_config({}, overlay(yaml.safe_dump(config.to_dict()))) == config


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_a_configuration(name):
    assert isinstance(load_config(read_recipe(name)), TrainConfig)


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(
        ValueError, match="no recipe 'smal'; there are small, small-clips, small-more"
    ):
        read_recipe("smal")
