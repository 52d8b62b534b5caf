"""The recipes that have a name: YAML files beside this one, plain data of a `TrainConfig`."""

from importlib.resources import files
from typing import Any

import yaml

_SUFFIX = ".yaml"


def recipe_names() -> list[str]:
    """Return the names, sorted."""
    names = (entry.name for entry in files(__package__).iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))


def read_recipe(name: str) -> dict[str, Any]:
    """Return what a recipe says.

    Raises:
        ValueError: there is none of this name; the message lists those there are.
    """
    if name not in recipe_names():
        raise ValueError(f"no recipe {name!r}; there are {', '.join(recipe_names())}")
    data: dict[str, Any] = yaml.safe_load((files(__package__) / f"{name}{_SUFFIX}").read_text())
    return data
