"""An evaluation as a table, as JSON, and as a folder with both and a page of frames."""

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from .catalogue import METRICS, Metric
from .evaluate import Evaluation, Measure
from .page import render_page
from .published import PublishedRow

Table = list[list[str]]

_ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}


def measures_table(evaluation: Evaluation) -> Table:
    """Return rows of text, the first of them the heading: one a measure."""
    rows = [["metric", "mean", f"{evaluation.level:.0%} interval", "over", "unit"]]
    for name, metric in METRICS.items():
        if name in evaluation.measures:
            measure = evaluation.measures[name]
            rows.append(
                [
                    metric.label + _ARROWS[metric.better],
                    _number(measure.mean, metric),
                    _interval(measure, metric),
                    _count(name, measure),
                    metric.unit,
                ]
            )
    return rows


def missing_table(evaluation: Evaluation) -> Table:
    """Return rows of text, the first of them the heading: what could not be computed, and why."""
    rows = [["not computed", "because"]]
    return rows + [[METRICS[name].label, why] for name, why in evaluation.missing.items()]


def published_table(evaluation: Evaluation, published: Sequence[PublishedRow]) -> Table:
    """Return rows of text: this evaluation, then published rows marked as such."""
    names = [name for name in METRICS if any(name in row.values for row in published)]
    heading = ["", *(METRICS[name].label + _ARROWS[METRICS[name].better] for name in names)]
    ours = {name: measure.mean for name, measure in evaluation.measures.items()}
    lines = [
        ("this evaluation", ours),
        *((f"{row.method} (published)", row.values) for row in published),
    ]
    rows = [heading]
    for title, values in lines:
        figures = (_number(values[n], METRICS[n]) if n in values else "-" for n in names)
        rows.append([title, *figures])
    return rows


def tables_of(
    evaluation: Evaluation, published: Sequence[PublishedRow] = ()
) -> list[tuple[str, Table]]:
    """Return all tables that have rows, each with a line that says what it is."""
    protocol = f", protocol {evaluation.protocol}" if evaluation.protocol else ""
    sizes = sorted(set(zip(evaluation.width, evaluation.height)))
    tables = [
        (
            f"{len(evaluation.videos)} video{'s' * (len(evaluation.videos) > 1)}, "
            f"{sum(evaluation.num_frames)} frames, "
            f"{', '.join(f'{w} x {h}' for w, h in sizes)} pixels{protocol}",
            measures_table(evaluation),
        )
    ]
    if evaluation.missing:
        tables.append(("What could not be computed", missing_table(evaluation)))
    if published:
        sources = "; ".join(dict.fromkeys(row.source for row in published))
        tables.append(
            (
                f"Published: {sources}. Not computed here, on videos and references that may "
                "differ; L1 in units of 1E-04",
                published_table(evaluation, published),
            )
        )
    return tables


def markdown(table: Table) -> str:
    """Return a table as Markdown, aligned to be read as plain text."""
    widths = [max(len(cell) for cell in column) for column in zip(*table)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def to_text(evaluation: Evaluation, published: Sequence[PublishedRow] = ()) -> str:
    """Return all tables as Markdown, aligned to be read as plain text."""
    return "\n\n".join(
        f"{title}\n\n{markdown(table)}" for title, table in tables_of(evaluation, published)
    )


def to_json(evaluation: Evaluation, published: Sequence[PublishedRow] = ()) -> dict[str, Any]:
    """Return an evaluation as plain data; a value that does not exist is null."""
    return {
        "protocol": evaluation.protocol,
        "level": evaluation.level,
        "videos": [
            {"name": name, "frames": frames, "width": width, "height": height}
            for name, frames, width, height in zip(
                evaluation.videos, evaluation.num_frames, evaluation.width, evaluation.height
            )
        ],
        "measures": {
            name: {
                "mean": _or_none(measure.mean),
                "interval": measure.interval,
                "count": measure.count,
                "per_video": [_or_none(value) for value in measure.per_video],
                "unit": METRICS[name].unit,
                "better": METRICS[name].better,
            }
            for name, measure in evaluation.measures.items()
        },
        "missing": dict(evaluation.missing),
        "published": [asdict(row) for row in published],
    }


def expect_new_folder(folder: str | Path) -> None:
    """Refuse a report folder that cannot be written, before anything is computed.

    Raises:
        ValueError: it is the folder that one is in, which cannot be replaced.
        FileExistsError: it exists and holds something, or is a file.
        NotADirectoryError: it would lie below a file.
        PermissionError: nothing may be written where it would lie.
    """
    folder = Path(folder)
    if Path.cwd().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder}: this is where you are; name a new folder")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"{folder}: this exists; name another folder or remove it")
    # the folders below it are made with the report
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{folder}: {above} is not a folder; name another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder}: nothing may be written to {above}; name another place")


def write_report(
    folder: str | Path,
    evaluation: Evaluation,
    generated: Sequence[ArrayLike],
    truth: Sequence[ArrayLike],
    published: Sequence[PublishedRow] = (),
) -> None:
    """Write ``table.md``, ``evaluation.json`` and ``index.html``; all of them or nothing.

    Args:
        folder: it must not exist, or be empty.
        evaluation: of these videos.
        generated: videos (F, H, W, 3).
        truth: likewise.
        published: rows to print beside it.

    Raises:
        FileExistsError: the folder holds something.
        OSError: it cannot be written.
    """
    expect_new_folder(folder)
    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        data = json.dumps(to_json(evaluation, published), indent=2, allow_nan=False)
        page = render_page(evaluation, tables_of(evaluation, published), generated, truth)
        for name, text in (
            ("table.md", to_text(evaluation, published)),
            ("evaluation.json", data),
            ("index.html", page),
        ):
            (partial / name).write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _number(value: float, metric: Metric) -> str:
    return f"{value:.{metric.digits}f}"


def _interval(measure: Measure, metric: Metric) -> str:
    if measure.interval is None:
        return "-"
    return " to ".join(_number(value, metric) for value in measure.interval)


def _count(name: str, measure: Measure) -> str:
    """Say how many of what a figure is of."""
    if name in ("fvd", "fid_vid", "fvd_zeros_against_ones"):
        return f"{measure.count} clips"
    return f"{measure.count} {'pairs of frames' if 'warping' in name else 'frames'}"


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
