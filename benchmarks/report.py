"""The report of a run: JSON, CSV, Markdown and plots in one folder."""

import csv
import json
from pathlib import Path
from typing import Any

from benchmarks.plots import draw_plots
from benchmarks.records import Record, Results, groups
from benchmarks.targets import CPU, GPU, GPU_CEILINGS, Ceiling, Target
from unianimate.profiling import MixerCost, crossing

_TITLES = {
    "unet": "The network",
    "longest clip": "The longest clip in one pass",
    "pipeline": "The pipeline",
    "blocks": "Temporal mixers",
    "ops": "Ops",
}
_COLUMNS = (
    *("section", "group", "form", "frames", "seconds", "low", "high", "rounds", "peak_bytes"),
    *("bytes", "flops", "exps", "bound_seconds", "bound_by", "fraction", "ratios", "note"),
)

# so many cases of a benchmark that there was no time for are named
_NAMED = 6


def write_report(results: Results, folder: Path) -> None:
    """Write ``results.json``, ``results.csv``, ``README.md``, ``summary.md`` and the plots.

    Args:
        results: of one run.
        folder: of this device; what an earlier run left there is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "results.json")
    _write_csv(results.records, folder / "results.csv")
    plots = draw_plots(results, folder)
    (folder / "README.md").write_text(_report(results, plots))
    (folder / "summary.md").write_text(summary(results, f"benchmarks/results/{folder.name}"))


def targets_of(results: Results) -> list[tuple[Target, float]]:
    """Return the targets whose figures were taken, and the ratios reached."""
    targets = CPU if results.machine["type"] == "cpu" else GPU
    reached = ((target, target.ratio(results)) for target in targets)
    return [(target, ratio) for target, ratio in reached if ratio is not None]


def ceilings_of(results: Results) -> list[tuple[Ceiling, float]]:
    """Return the ceilings of figures that were taken, and the figures."""
    ceilings = [] if results.machine["type"] == "cpu" else GPU_CEILINGS
    found = ((ceiling, ceiling.figure(results)) for ceiling in ceilings)
    return [(ceiling, figure) for ceiling, figure in found if figure is not None]


def crossings(results: Results) -> list[tuple[str, str, int | None]]:
    """Return (panel, mixer, the frames from which on it is faster than attention)."""
    costs: dict[str, list[MixerCost]] = {}
    for record in results.records:
        if record.section == "blocks":
            cost = MixerCost(
                mixer=record.form,
                dim=record.extra["dim"],
                height=1,
                width=1,
                frames=record.frames or 1,
                seconds=record.seconds,
                low=record.low,
                high=record.high,
            )
            costs.setdefault(record.panel, []).append(cost)
    return [
        (panel, mixer, crossing(measured, mixer, "transformer"))
        for panel, measured in costs.items()
        for mixer in dict.fromkeys(cost.mixer for cost in measured)
        if mixer != "transformer"
    ]


def summary(results: Results, folder: str) -> str:
    """Return what the project's README shows: two plots and a short table, in Markdown.

    Args:
        results: of one run.
        folder: where the report is, as a link from the README.
    """
    machine = results.machine
    lines = [
        f"Measured on {_device(machine)}, {machine['date']}; "
        f"every figure is a row of [{folder}]({folder}/README.md).",
        "",
    ]
    if any(record.section == "blocks" for record in results.records):
        lines += [
            f"![Peak memory of one temporal mixer over the frames]({folder}/memory.png)",
            "",
            f"![Throughput of one temporal mixer over the frames]({folder}/throughput.png)",
            "",
            _attention_or_mamba(results),
            "",
        ]
    if targets_of(results) or ceilings_of(results):
        lines += [
            "| ratio of two times, or of two peaks; or a figure | measured | aim |",
            "|---|---|---|",
        ]
        lines += [
            f"| {target.what} | {ratio:.1f}x | {target.least:.1f}x |"
            for target, ratio in targets_of(results)
        ]
        lines += [
            f"| {ceiling.what} | {ceiling.written(figure)} | {ceiling.written(ceiling.most)} |"
            for ceiling, figure in ceilings_of(results)
        ]
    return "\n".join(lines).rstrip() + "\n"


def _attention_or_mamba(results: Results) -> str:
    """Say from which length on each Mamba mixer pays, and where it does not."""
    panels: dict[str, dict[str, list[str]]] = {}
    for panel, mixer, frames in crossings(results):
        if mixer.startswith("mamba") and "layout" not in mixer and "inference" in panel:
            reached = "at no length measured" if frames is None else f"from F = {frames}"
            place = panel.replace(", inference", "")
            panels.setdefault(place, {}).setdefault(reached, []).append(f"`{mixer}`")
    places: dict[str, list[str]] = {}
    for place, found in panels.items():
        for reached, mixers in found.items():
            places.setdefault(f"{', '.join(mixers)} {reached}", []).append(place)
    sentences = [f"{what} at {' and '.join(where)}" for what, where in places.items()]
    text = "Faster than temporal attention in inference: " + "; ".join(sentences) + "."
    return " ".join([text, *_memory(results)])


def _memory(results: Results) -> list[str]:
    """Say for each mode what Mamba mixers hold at the longest clip, against attention."""
    sizes: dict[str, dict[int, dict[str, int]]] = {}
    modes: dict[str, list[str]] = {}
    for record in results.records:
        if record.section == "blocks" and record.peak_bytes and record.frames:
            peaks = sizes.setdefault(record.panel, {}).setdefault(record.frames, {})
            peaks[record.form] = record.peak_bytes
            panels = modes.setdefault(record.extra["mode"], [])
            if record.panel not in panels:
                panels.append(record.panel)
    sentences = []
    for mode in ("inference", "training"):
        longest = max((max(sizes[panel]) for panel in modes.get(mode, [])), default=None)
        parts = []
        for panel in modes.get(mode, []):
            held = sizes[panel].get(longest or 0, {})
            against = [
                f"`{form}` {held[form] / held['transformer']:.1f}"
                for form in ("mamba", "mamba2")
                if form in held and "transformer" in held
            ]
            if against:
                parts.append(f"{', '.join(against)} at {panel.replace(f', {mode}', '')}")
        if parts:
            sentences.append(
                f"Memory held between ops at F = {longest} in {mode}, times that of attention: "
                f"{'; '.join(parts)}."
            )
    return sentences


def _report(results: Results, plots: list[str]) -> str:
    lines = [f"# {_device(results.machine)}", "", *_about(results), ""]
    reached, ceilings = targets_of(results), ceilings_of(results)
    if reached or ceilings:
        lines += ["## Aims", "", "| ratio, or figure | measured | aim | |", "|---|---|---|---|"]
        for target, ratio in reached:
            verdict = "reached" if ratio >= target.least else "**missed**"
            lines.append(f"| {target.what} | {ratio:.2f} | {target.least:.2f} | {verdict} |")
        for ceiling, figure in ceilings:
            verdict = "reached" if figure <= ceiling.most else "**missed**"
            measured, most = ceiling.written(figure), ceiling.written(ceiling.most)
            lines.append(f"| {ceiling.what} | {measured} | at most {most} | {verdict} |")
        lines.append("")
    lines += [f"![{name}]({name}.png)\n" for name in plots]
    for section, title in _TITLES.items():
        records = [record for record in results.records if record.section == section]
        if records:
            lines += [f"## {title}", ""]
            lines += _crossing_table(results) if section == "blocks" else []
            lines += _table(records, section)
    if results.missed:
        lines += ["## Not measured for want of time", "", *_missed(results.missed)]
    return "\n".join(lines).rstrip() + "\n"


def _missed(names: list[str]) -> list[str]:
    """Name what there was no time for; of many cases of a benchmark only their number."""
    gathered: dict[str, list[str]] = {}
    for name in names:
        gathered.setdefault(name.split("[")[0], []).append(f"`{name}`")
    return [
        f"- {', '.join(cases)}" if len(cases) <= _NAMED else f"- `{benchmark}`: {len(cases)} cases"
        for benchmark, cases in gathered.items()
    ]


def _about(results: Results) -> list[str]:
    machine, limits = results.machine, results.limits
    copies = ", ".join(
        f"{rate / 1e9:.1f} GB/s at {size / 2**20:.0f} MiB" for size, rate in limits["copy"]
    )
    products = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {d}" for d, rate in limits["matmul"].items())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [
        f"{machine['date']}, commit {machine['commit']}, Python {machine['python']}, {versions}.",
        "",
        "Limits of this machine, the better of two measurements, at the start and at the end of "
        f"the run: copies {copies}; matrix products "
        f"{products}; {limits['exps'] / 1e9:.2f} G exponentials/s. *Of the limit* is the least "
        "time for the bytes, flops and exponentials of an op over the time it took. Times are "
        "medians with their quartiles.",
    ]


def _device(machine: dict[str, Any]) -> str:
    if machine["type"] == "cuda":
        return str(machine["device"])
    return f"{machine['device']}, {machine['threads']} threads, {machine['instructions']}"


def _crossing_table(results: Results) -> list[str]:
    """Return where mixers are faster than attention, and what they cost a frame."""
    found = {(panel, mixer): frames for panel, mixer, frames in crossings(results)}
    lines = ["| size, mode and dtype | mixer | faster than the transformer from F = | ms a frame |"]
    lines.append("|---|---|---|---|")
    measured: dict[tuple[str, str], list[Record]] = {}
    for record in results.records:
        if record.section == "blocks" and record.seconds is not None:
            measured.setdefault((record.panel, record.form), []).append(record)
    for key, records in measured.items():
        ends = sorted(records, key=lambda record: record.frames or 0)
        a_frame = ", ".join(
            f"{1e3 * record.seconds / record.frames:.3g} at F = {record.frames}"
            for record in (*ends[:1], *ends[1:][-1:])
        )
        lines.append(f"| {' | '.join(key)} | {found.get(key) or '-'} | {a_frame} |")
    return [*lines, ""]


def _table(records: list[Record], section: str) -> list[str]:
    lines = []
    for group, members in groups(records).items():
        timed = [member.seconds for member in members if member.seconds is not None]
        best = min(timed, default=None)
        lines += [f"**{group}**", ""]
        lines += ["| | time | quartiles | to the best | frames/s | peak | of the limit | |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        lines += [_row(member, best) for member in members]
        lines.append("")
    return lines


def _row(record: Record, best: float | None) -> str:
    cells = [record.form]
    if record.seconds is None or best is None:
        cells += ["-"] * 3 + [f"F = {record.frames}" if record.frames else "-"]
    else:
        cells += [
            _milliseconds(record.seconds),
            f"{_milliseconds(record.low or 0)} - {_milliseconds(record.high or 0)}",
            f"{record.seconds / best:.2f}",
            f"{record.frames / record.seconds:.1f}" if record.frames else "-",
        ]
    cells.append("-" if record.peak_bytes is None else f"{record.peak_bytes / 2**20:.1f} MiB")
    limit = "-" if record.fraction is None else f"{record.fraction:.0%} ({record.bound_by})"
    stages = record.extra.get("stages", {})
    parts = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in stages.items())
    cells += [limit, "; ".join(filter(None, (record.note, parts)))]
    return "| " + " | ".join(cells) + " |"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def _write_csv(records: list[Record], path: Path) -> None:
    extras = sorted({name for record in records for name in record.extra} - {"stages"})
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_COLUMNS, *extras])
        for record in records:
            row = [getattr(record, column) for column in _COLUMNS]
            row[_COLUMNS.index("ratios")] = json.dumps(record.ratios) if record.ratios else ""
            writer.writerow([*row, *(record.extra.get(name, "") for name in extras)])
