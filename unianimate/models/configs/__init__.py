"""The configurations of the official VAE and of the two CLIP towers, as their libraries read them.

They ship with the package, so that building a model never asks a hub.
"""

import json
from pathlib import Path
from typing import Any, Literal


def packaged_config(name: Literal["vae", "image_encoder", "text_encoder"]) -> dict[str, Any]:
    """Return the configuration of an official part as a dictionary of its own."""
    return dict(json.loads((Path(__file__).parent / f"{name}.json").read_text()))
