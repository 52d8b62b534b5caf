"""The examples of docs/animate.md run, in their order and in one scope, as a reader would."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_run import photo, random_pose

from unianimate.data import probe_video
from unianimate.models import PRESETS, UniAnimate

PAGE = Path(__file__).parents[2] / "docs" / "animate.md"


# diffusers calls numpy on tensors in a way that numpy 2 announces the end of
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_examples_of_the_page_run(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    UniAnimate(replace(PRESETS["test"], steps=2)).save_pretrained(tmp_path / "small")
    photo().save(tmp_path / "photo.jpg")
    random_pose(1, 1).save(tmp_path / "photo_pose.npz")
    random_pose(9, 2).save(tmp_path / "dance.npz")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 3
    scope: dict = {}
    shapes = []
    for example in examples:
        exec(example, scope)
        shapes.append(scope["frames"].shape)
    assert shapes == [(9, 48, 32, 3)] * 3
    assert probe_video("out.mp4").num_frames == 9
    assert "step 6 of 6" in capsys.readouterr().out
