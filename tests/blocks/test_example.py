"""The example of a model made of blocks runs and learns."""

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_video_model.py"


def test_the_custom_model_learns():
    losses = runpy.run_path(str(EXAMPLE))["train"](steps=12)
    assert losses[-1] < 0.9 * losses[0]
