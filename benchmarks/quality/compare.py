"""`mixers`, `separate` and `reference`: models side by side, on the same puppets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.finding import Finding
from benchmarks.quality.models import Named, about, held_out, network_cost
from benchmarks.quality.rows import Row, animate, copies, gains_table, quality_table, rows_data
from examples.separate_reference import SeparateReference
from unianimate.models import UniAnimate
from unianimate.pose import PoseSource


@dataclass(frozen=True)
class WithoutReferencePose:
    """A `PoseSource` whose reference shows no pose: a black picture."""

    poses: PoseSource

    @property
    def num_frames(self) -> int:
        return self.poses.num_frames

    @property
    def fps(self) -> float:
        return self.poses.fps

    @property
    def digest(self) -> str:
        return f"{self.poses.digest} without the reference's pose"

    def reference(self) -> np.ndarray:
        return np.zeros_like(self.poses.reference())

    def read(self, frames: Sequence[int]) -> list[np.ndarray]:
        return self.poses.read(frames)


def mixers(models: Sequence[Named], count: int) -> Finding:
    """Compare models by quality, and by what a call of their network costs."""
    return _side_by_side([(model, UniAnimate) for model in models], count)


def separate(unified: Named, other: Named, count: int) -> Finding:
    """Compare a model with one that has a separate reference network."""
    return _side_by_side([(unified, UniAnimate), (other, SeparateReference)], count)


def reference(model: Named, without: Named | None, count: int) -> Finding:
    """Compare a model with itself, and with one trained so, not told the reference's pose."""
    pipeline = model.pipeline()
    trained = None if without is None else without.pipeline()
    if without is not None and trained is not None:
        _expect_same_size(pipeline.model, trained.model, without)
    cases = held_out(pipeline, count)
    blind = [case._replace(poses=WithoutReferencePose(case.poses)) for case in cases]
    told = animate("with the reference's pose", pipeline, cases)
    rows = [copies(cases), told, animate("the same weights without it", pipeline, blind)]
    if trained is not None:
        rows.append(animate("trained without it", trained, blind))
    gains = [(f"{told.label} above {row.label}", told.gains(row)) for row in rows[2:]]
    return Finding(
        about(pipeline, cases) + " Without its pose the reference has a black pose picture.",
        [("", quality_table(rows, rows[0])), ("", gains_table(gains))],
        {"rows": rows_data(rows)},
    )


def _side_by_side(models: Sequence[tuple[Named, type[UniAnimate]]], count: int) -> Finding:
    pipelines = {name.label: name.pipeline(kind) for name, kind in models}
    if len(pipelines) < len(models):
        raise ValueError("two models are called alike: name them LABEL=FOLDER")
    first = next(iter(pipelines.values()))
    for name, _ in models[1:]:
        _expect_same_size(first.model, pipelines[name.label].model, name)
    cases = held_out(first, count)
    costs = {label: network_cost(pipeline.model) for label, pipeline in pipelines.items()}
    rows = [copies(cases)]
    rows += [animate(label, pipeline, cases) for label, pipeline in pipelines.items()]
    table = [["network", "parameters, M", "one call, ms (quartiles)", "held at once, MiB"]]
    for label, cost in costs.items():
        spread = f"{cost['milliseconds_low']:.0f} to {cost['milliseconds_high']:.0f}"
        numbers = [f"{cost['parameters'] / 1e6:.2f}", f"{cost['milliseconds']:.0f} ({spread})"]
        table.append([label, *numbers, f"{cost['peak_mib']:.0f}"])
    return Finding(
        about(first, cases),
        [
            ("", quality_table(rows, rows[0])),
            ("", gains_table(_pairs(rows[1:]))),
            ("One call of the network for one video; weights and inputs are not counted.", table),
        ],
        {"rows": rows_data(rows), "costs": costs},
    )


def _pairs(rows: list[Row]) -> list[tuple[str, np.ndarray]]:
    """Return the gains of the first above each other, puppet by puppet."""
    first, *others = rows
    return [(f"{first.label} above {row.label}", first.gains(row)) for row in others]


def _expect_same_size(first: UniAnimate, other: UniAnimate, name: Named) -> None:
    sizes = [(m.config.width, m.config.height, m.config.num_frames) for m in (first, other)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{name.folder}: makes videos of {sizes[1]} (width, height, frames), the first model "
            f"of {sizes[0]}: only equal sizes can be compared"
        )
