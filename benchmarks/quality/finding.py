"""What a command of the harness found, and how it is written."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unianimate.metrics.report import Table, markdown


@dataclass
class Finding:
    """Tables and pictures of one command, and every figure behind them.

    Attributes:
        about: what was done, in a sentence or two.
        tables: each with the sentence above it.
        pictures: file name without suffix -> its caption and uint8 RGB (H, W, 3).
        data: plain data for ``results.json``.
    """

    about: str
    tables: list[tuple[str, Table]]
    data: dict[str, Any]
    pictures: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)

    def write(self, folder: Path, run: dict[str, Any]) -> None:
        """Write ``results.json``, ``table.md`` and the pictures; replaces what was there.

        Args:
            folder: made if it is not there.
            run: the machine, the command and how long it took.
        """
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**run, **self.data}, indent=1, allow_nan=False)
        (folder / "results.json").write_text(text + "\n")
        for name, (_, picture) in self.pictures.items():
            # 256 colours are a quarter of the bytes, and enough to see what happens
            image = Image.fromarray(picture).quantize(256)
            image.save(folder / f"{name}.png", optimize=True)
        (folder / "table.md").write_text(self._page(run))

    def _page(self, run: dict[str, Any]) -> str:
        parts = [self.about]
        for sentence, table in self.tables:
            parts += [sentence, markdown(table)]
        for name, (caption, _) in self.pictures.items():
            parts.append(f"![{name}]({name}.png)\n\n*{caption}*")
        machine = run["machine"]
        threads = f", {machine['threads']} threads" if machine["type"] == "cpu" else ""
        parts.append(
            f"*{run['command']}: {run['seconds'] / 60:.0f} minutes on {machine['device']}"
            f"{threads}, {machine['date']}, commit {machine['commit']}.*"
        )
        return "\n\n".join(part for part in parts if part) + "\n"
