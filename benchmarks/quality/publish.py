"""Put the tables and pictures of a folder of findings into the page of the small model."""

import re
import shutil
from pathlib import Path

from benchmarks.publish import publish

_DOCS = Path(__file__).parents[2] / "docs"


def publish_findings(folder: Path, page: Path = _DOCS / "small.md") -> list[str]:
    """Copy every finding of a folder between its markers; return their names.

    Args:
        folder: holds a folder for every command that ran.
        page: has ``<!-- quality: NAME -->`` and ``<!-- /quality: NAME -->`` for each of them.

    Raises:
        ValueError: nothing was found, or the page lacks a marker.
    """
    found = sorted(path.parent for path in folder.glob("*/table.md"))
    if not found:
        raise ValueError(f"{folder}: holds no findings (COMMAND/table.md)")
    text = page.read_text()
    for finding in found:
        table = (finding / "table.md").read_text()
        table = re.sub(r"\]\((\w+\.png)\)", rf"](assets/small/{finding.name}-\1)", table)
        text = publish(table, text, f"quality: {finding.name}", page.name)
    assets = page.parent / "assets" / "small"
    assets.mkdir(parents=True, exist_ok=True)
    for finding in found:
        for picture in finding.glob("*.png"):
            shutil.copyfile(picture, assets / f"{finding.name}-{picture.name}")
    page.write_text(text)
    return [finding.name for finding in found]
