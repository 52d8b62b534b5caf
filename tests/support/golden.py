"""Tensors that the official classes produced, and the weights that follow from their names.

``tests/golden/NAME.safetensors`` holds inputs and results, ``NAME.json`` sizes, prefixes and the
full list of keys and shapes. The weights themselves are not stored: `golden_weights` makes them.
"""

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).parent.parent / "golden"


def load_golden(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of ``NAME.safetensors`` and the dictionary of ``NAME.json``.

    Either file may be absent; its part is then empty.
    """
    tensors, notes = GOLDEN / f"{name}.safetensors", GOLDEN / f"{name}.json"
    if not tensors.exists() and not notes.exists():
        raise FileNotFoundError(f"no golden named {name!r} in {GOLDEN}")
    return (
        load_file(tensors) if tensors.exists() else {},
        json.loads(notes.read_text()) if notes.exists() else {},
    )


def golden_uniform(key: str, shape: Sequence[int]) -> Tensor:
    """Return float32 numbers in [-1, 1) that depend on `key` alone (C order)."""
    generator = np.random.Generator(np.random.Philox(key=zlib.crc32(key.encode())))
    u = 2 * generator.random(math.prod(shape), dtype=np.float32) - 1
    return torch.from_numpy(u.reshape(tuple(shape)))


def golden_weights(
    names_and_shapes: Mapping[str, Sequence[int]], prefix: str = ""
) -> dict[str, Tensor]:
    """Return the weights of the golden modules, in the official names.

    With u = ``golden_uniform(prefix + name)``: tensors of two or more dimensions are
    u / sqrt(fan-in), one-dimensional ``*.weight`` are 1 + 0.1 u, all else 0.1 u.
    """
    weights = {}
    for name, shape in names_and_shapes.items():
        u = golden_uniform(prefix + name, shape)
        if len(shape) >= 2:
            weights[name] = u / math.sqrt(math.prod(shape[1:]))
        elif len(shape) == 1 and name.endswith(".weight"):
            weights[name] = 1 + 0.1 * u
        else:
            weights[name] = 0.1 * u
    return weights


def official_shapes(part: str) -> dict[str, list[int]]:
    """Return the names and shapes of an official file: "unet", "vae" or "clip"."""
    with gzip.open(GOLDEN / "official_keys.json.gz") as file:
        return dict(json.load(file)[part])
