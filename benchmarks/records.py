"""One figure of a run, and a run as it is stored."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# sections in which others are measured too, and how forms begin there that are this project's
_SHARED = ("ops", "blocks", "unet")
_OURS = ("native", "triton", "unianimate", "transformer", "mamba", "mamba2")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One figure.

    Attributes:
        section: "ops", "blocks", "unet" or "pipeline".
        group: what is compared: the op, its shape, dtype and direction.
        form: who did it: a backend, a mixer, a layout.
        seconds: median of a call; None if it did not run, and `note` says why.
        low: the lower quartile.
        high: the upper quartile.
        rounds: calls timed.
        ratios: other form -> the median of its time over this one's, called in turn with it.
        frames: frames that the call worked on.
        peak_bytes: most bytes held at once besides weights and inputs; of the longest clip, with
            the weights.
        bytes: that have to be moved; with `flops` and `exps` the least work.
        flops: likewise.
        exps: likewise.
        bound_seconds: the least time of this machine for that work.
        bound_by: "bytes", "flops" or "exps".
        note: why there is no figure, or how it was found if not by measurement.
        extra: shape, dtype, mode and the like.
    """

    section: str
    group: str
    form: str
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    ratios: dict[str, float] = field(default_factory=dict)
    frames: int | None = None
    peak_bytes: int | None = None
    bytes: float | None = None
    flops: float | None = None
    exps: float | None = None
    bound_seconds: float | None = None
    bound_by: str | None = None
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the figure in another run."""
        return self.group, self.form

    @property
    def ours(self) -> bool:
        """Whether this project's code was timed, rather than torch's, a peer's or a reference."""
        if self.section not in _SHARED:
            return True
        return self.form.split(",")[0] in _OURS and "layout" not in self.form

    @property
    def panel(self) -> str:
        """What a temporal mixer is compared at over the frames; `extra` says it."""
        return "{dim} channels, {size}, {mode}, {dtype}".format(**self.extra)

    @property
    def fraction(self) -> float | None:
        """The share of the machine's limit that is reached."""
        if self.seconds is None or self.bound_seconds is None:
            return None
        return self.bound_seconds / self.seconds


@dataclass(frozen=True)
class Results:
    """A run.

    Attributes:
        machine: whose figures these are.
        limits: of it.
        records: the figures.
        missed: benchmarks that there was no time for.
    """

    machine: dict[str, Any]
    limits: dict[str, Any]
    records: list[Record]
    missed: list[str] = field(default_factory=list)

    def find(self, group: str, form: str) -> Record | None:
        """Return the figure of this name, if it was taken."""
        return next((r for r in self.records if r.key == (group, form)), None)

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        data = {"machine": self.machine, "limits": self.limits, "missed": self.missed}
        rows = [{**asdict(record), "fraction": record.fraction} for record in self.records]
        path.write_text(json.dumps({**data, "records": rows}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what `save` wrote."""
        data = json.loads(path.read_text())
        rows = [{k: v for k, v in row.items() if k != "fraction"} for row in data["records"]]
        records = [Record(**row) for row in rows]
        return cls(data["machine"], data["limits"], records, data.get("missed", []))


def groups(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Gather records by what they compare, in order."""
    gathered: dict[str, list[Record]] = {}
    for record in records:
        gathered.setdefault(record.group, []).append(record)
    return gathered
