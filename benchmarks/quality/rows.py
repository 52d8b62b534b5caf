"""Rows of the quality tables: a way of making videos, and how good its videos are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from unianimate.metrics import METRICS, Evaluation, bootstrap_mean
from unianimate.metrics.bootstrap import Interval
from unianimate.metrics.report import Table, to_json
from unianimate.pipelines import AnimatePipeline
from unianimate.training.cases import Case, Video, evaluate_cases

COLUMNS = ("psnr", "psnr_moving", "ssim", "pose_error", "identity_color_error")
_ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}


class Figure(NamedTuple):
    """A mean over puppets, and its 95 % bootstrap interval; None for a single puppet."""

    mean: float
    interval: Interval | None

    @classmethod
    def of(cls, per_puppet: Sequence[float] | np.ndarray) -> "Figure":
        """Take the mean of one number a puppet, without those that have none."""
        known = np.asarray(per_puppet, dtype=np.float64)
        return cls(*bootstrap_mean(known[np.isfinite(known)]))

    def text(self, digits: int = 2, sign: str = "") -> str:
        """Return ``1.23 (1.10 to 1.40)``."""
        mean = f"{self.mean:{sign}.{digits}f}"
        if self.interval is None:
            return mean
        low, high = (f"{end:{sign}.{digits}f}" for end in self.interval)
        return f"{mean} ({low} to {high})"


class Row(NamedTuple):
    """What a way of making the videos of all puppets came to."""

    label: str
    videos: list[Video]
    evaluation: Evaluation

    def figure(self, name: str) -> Figure:
        """Return the mean of a measure."""
        measure = self.evaluation[name]
        return Figure(measure.mean, measure.interval)

    def per_puppet(self, name: str) -> np.ndarray:
        """Return a measure of each puppet (n,)."""
        return np.array(self.evaluation[name].per_video)

    def gains(self, other: "Row", name: str = "psnr") -> np.ndarray:
        """Return by how much each puppet (n,) is better than another row's."""
        return self.per_puppet(name) - other.per_puppet(name)


def judge(label: str, cases: Sequence[Case], videos: Sequence[Video]) -> Row:
    """Compare videos that are there with the true ones."""
    return Row(label, list(videos), evaluate_cases(cases, videos))


def animate(label: str, pipeline: AnimatePipeline, cases: Sequence[Case], **options: Any) -> Row:
    """Let a model make the videos, and compare them; the options are those of `stream`."""
    videos = [case.animate(pipeline, **options) for case in tqdm(cases, desc=label)]
    return judge(label, cases, videos)


def copies(cases: Sequence[Case]) -> Row:
    """Repeat the reference: what needs no model."""
    return judge("copying the reference", cases, [case.copy for case in cases])


def quality_table(rows: Sequence[Row], base: Row) -> Table:
    """Return one line a row; the last column is the gain above the base."""
    heads = [METRICS[n].label + unit_of(n) + _ARROWS[METRICS[n].better] for n in COLUMNS]
    table = [["", *heads, f"PSNR above {base.label}, dB"]]
    for row in rows:
        figures = [row.figure(name).text(METRICS[name].digits) for name in COLUMNS]
        gain = "" if row is base else Figure.of(row.gains(base)).text(sign="+")
        table.append([row.label, *figures, gain])
    return table


def gains_table(lines: Sequence[tuple[str, np.ndarray]]) -> Table:
    """Return mean, interval and extremes of gains in dB, one number a puppet."""
    table = [["gain in PSNR, dB", "mean", "worst puppet", "best puppet"]]
    for what, gains in lines:
        worst, best = f"{np.nanmin(gains):+.2f}", f"{np.nanmax(gains):+.2f}"
        table.append([what, Figure.of(gains).text(sign="+"), worst, best])
    return table


def unit_of(name: str) -> str:
    """Return ``, dB`` for a measure in decibels."""
    unit = METRICS[name].unit
    return f", {unit}" if unit else ""


def rows_data(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as plain data, every measure of every puppet."""
    return [{"label": row.label, **to_json(row.evaluation)} for row in rows]
