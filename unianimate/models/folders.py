"""Where a model of a name lives."""

import os
from pathlib import Path

_ASSETS = Path(__file__).parent.parent / "assets"


def data_home() -> Path:
    """Return the folder of named models: ``$XDG_DATA_HOME/unianimate``."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "unianimate"


def model_folder(model: str | Path) -> Path:
    """Return the folder of a model.

    Args:
        model: a folder, or a name: ``small`` ships with the package, others are folders in
            `data_home`.

    Raises:
        FileNotFoundError: there is no such model; the message says where it was looked for.
    """
    places = [Path(model)]
    if len(Path(model).parts) == 1:
        places += [_ASSETS / model, data_home() / model]
    for place in places:
        if (place / "config.json").is_file():
            return place
    raise FileNotFoundError(
        f"no model {str(model)!r}: found no config.json in {', '.join(map(str, places))}; "
        f"make one with `unianimate convert`, or name another"
    )
