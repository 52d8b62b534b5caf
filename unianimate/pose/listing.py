"""The files of a folder in the order a person would count them."""

import re
from collections.abc import Collection
from pathlib import Path

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


def list_pictures(folder: Path) -> list[Path]:
    """List the pictures in a folder; numbers in names are counted: 2.png comes before 10.png."""
    return list_files(folder, PICTURE_SUFFIXES)


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """List the files with these suffixes, hidden ones left out, in the order of `list_pictures`."""
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
    return sorted(found, key=_natural)


def _natural(path: Path) -> tuple[tuple[str, int], ...]:
    parts = re.findall(r"(\D*)(\d*)", path.name)
    # the name itself orders 1.png and 01.png
    return (*((text, int(digits or -1)) for text, digits in parts), (path.name, 0))
