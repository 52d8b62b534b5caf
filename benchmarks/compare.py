"""What changed between two runs beyond their noise.

python -m benchmarks.compare OLD/results.json NEW/results.json
"""

import argparse
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records import Record, Results

# a smaller change is none, however still the machine was
_LEAST = 0.05
# a single call has no quartiles that say how still it was
_LEAST_OF_ONE = 0.2
# figures of torch and of peers that it takes to tell how still both runs were
_FEWEST_YARDSTICKS = 10


@dataclass(frozen=True)
class Change:
    """A figure that changed.

    Attributes:
        record: the new figure.
        ratio: new over old seconds, or bytes.
        what: "time" or "memory".
    """

    record: Record
    ratio: float
    what: str

    def __str__(self) -> str:
        """Say it in one line."""
        old = {"time": ("faster", "slower"), "memory": ("less memory", "more memory")}[self.what]
        factor, word = (1 / self.ratio, old[0]) if self.ratio < 1 else (self.ratio, old[1])
        return f"{factor:.2f}x {word}: {self.record.form}, {self.record.group}"


def noise(old: Results, new: Results) -> float:
    """Return the ratio within which nine of ten times lie that no change of ours has touched.

    Those of torch, of peers and of references; 1 if both runs have fewer than ten of them.
    """
    before = {record.key: record.seconds for record in old.records}
    apart = [
        abs(math.log(record.seconds / earlier))
        for record in new.records
        if not record.ours and record.seconds and (earlier := before.get(record.key))
    ]
    if len(apart) < _FEWEST_YARDSTICKS:
        return 1.0
    return math.exp(statistics.quantiles(apart, n=10, method="inclusive")[-1])


def changes(old: Results, new: Results) -> list[Change]:
    """Return what of ours changed beyond noise, the largest change first.

    A time changed if the quartiles of both runs do not overlap and the medians differ by more than
    `noise` and 5 %, or 20 % where one call was timed; counted bytes have neither.
    """
    before = {record.key: record for record in old.records}
    least = max(noise(old, new) - 1, _LEAST)
    found = []
    for record in new.records:
        earlier = before.get(record.key)
        if earlier is not None and record.ours:
            found += _time(earlier, record, least) + _memory(earlier, record)
    return sorted(found, key=lambda change: -max(change.ratio, 1 / change.ratio))


def describe_changes(old: Results, new: Results) -> str:
    """Return the changes as text, a line each."""
    devices = [run.machine["device"] for run in (new, old)]
    lines = [
        f"{devices[0]}, against {old.machine['commit']} of {old.machine['date']}, {devices[1]}:",
        f"nine of ten times of torch, peers and references lie within {noise(old, new):.2f}x",
    ]
    lines += list(map(str, changes(old, new))) or ["nothing changed beyond noise"]
    gone = {record.key for record in old.records} - {record.key for record in new.records}
    fresh = {record.key for record in new.records} - {record.key for record in old.records}
    lines += _lost(old, new)
    if gone or fresh:
        lines.append(f"figures that only one run has: {len(gone)} earlier, {len(fresh)} now")
    return "\n".join(lines)


def _lost(old: Results, new: Results) -> list[str]:
    """Say which figures one run has a time for and the other only a reason."""
    before = {record.key: record for record in old.records}
    lines = []
    for record in new.records:
        earlier = before.get(record.key)
        if earlier is None or (earlier.seconds is None) == (record.seconds is None):
            continue
        word = "no figure any more" if record.seconds is None else "a figure now"
        reason = record.note or earlier.note
        lines.append(f"{word} ({reason}): {record.form}, {record.group}")
    return lines


def _time(old: Record, new: Record, least: float) -> list[Change]:
    figures = (old.seconds, old.low, old.high, new.seconds, new.low, new.high)
    if any(figure is None for figure in figures):
        return []
    before, old_low, old_high, now, new_low, new_high = figures
    apart = new_low > old_high or new_high < old_low
    ratio = now / before
    if min(old.rounds, new.rounds) < 2:
        least = max(least, _LEAST_OF_ONE)
    return [Change(new, ratio, "time")] if apart and _far(ratio, least) else []


def _memory(old: Record, new: Record) -> list[Change]:
    if not old.peak_bytes or not new.peak_bytes:
        return []
    ratio = new.peak_bytes / old.peak_bytes
    return [Change(new, ratio, "memory")] if _far(ratio, _LEAST) else []


def _far(ratio: float, least: float) -> bool:
    return max(ratio, 1 / ratio) > 1 + least


def main() -> None:
    """Compare two files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    paths = parser.parse_args()
    try:
        old, new = Results.load(paths.old), Results.load(paths.new)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"compare: these are not two results.json of `make bench`: {error}")
    print(describe_changes(old, new))


if __name__ == "__main__":
    main()
