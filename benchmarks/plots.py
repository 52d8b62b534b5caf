"""The plots of a run, as PNG and SVG."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.records import Record, Results

# one colour and marker a mixer, in every plot
_STYLES: dict[str, dict[str, Any]] = {
    "transformer": {"color": "#4063d8", "marker": "o"},
    "mamba": {"color": "#d83b3b", "marker": "s"},
    "mamba, shared dynamics": {"color": "#e08e2b", "marker": "^"},
    "mamba2": {"color": "#2e9e5b", "marker": "D"},
    "transformer, official layout": {"color": "#8494b8", "marker": "o", "linestyle": "--"},
    "mamba, mamba-ssm layout": {"color": "#c48d8d", "marker": "s", "linestyle": "--"},
}
_GREY = "#666666"


def draw_plots(results: Results, folder: Path) -> list[str]:
    """Draw what the figures allow: memory and throughput over the frames, roofline fractions.

    Returns:
        The names of the plots drawn, without suffix.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "unianimate", "font.size": 9})
    blocks = [r for r in results.records if r.section == "blocks" and r.seconds is not None]
    ops = [r for r in results.records if r.fraction is not None and r.form in ("native", "triton")]
    drawn = []
    if blocks:
        _over_frames(
            blocks,
            lambda record: (record.peak_bytes or 0) / 2**20,
            "peak memory, MiB",
            folder / "memory",
        )
        _over_frames(
            blocks,
            lambda record: record.frames / record.seconds,
            "frames a second through one block",
            folder / "throughput",
        )
        drawn += ["memory", "throughput"]
    if ops:
        _fractions(ops, folder / "roofline")
        drawn.append("roofline")
    return drawn


def _over_frames(
    records: list[Record], figure: Callable[[Any], float], label: str, path: Path
) -> None:
    """Draw a panel a size, mode and dtype, a line a mixer."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    panels = list(dict.fromkeys(record.panel for record in records))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    canvas, axes = plt.subplots(
        *(rows, columns),
        figsize=(3.4 * columns, 2.6 * rows + 0.6),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, panel in zip(axes.flat, panels, strict=False):
        inside = [record for record in records if record.panel == panel]
        for form in dict.fromkeys(record.form for record in inside):
            points = sorted((r.frames, figure(r)) for r in inside if r.form == form)
            axis.plot(*zip(*points, strict=True), label=form, markersize=4, **_STYLES.get(form, {}))
        size, mode, dtype = panel.rsplit(", ", 2)
        axis.set(title=f"{size}\n{mode}, {dtype}", xscale="log", yscale="log", xlabel="frames")
        ticks = sorted({record.frames for record in inside if record.frames})
        axis.set_xticks([t for t in ticks if t & (t - 1) == 0] or ticks)
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.grid(alpha=0.25)
    for row in axes:
        row[0].set_ylabel(label)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    canvas.legend(
        handles, labels, loc="outside lower center", ncols=min(3, len(labels)), frameon=False
    )
    _save(canvas, path)


def _fractions(records: list[Record], path: Path) -> None:
    """Draw a dot a size, forward and with backward, a line an op."""
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(record.extra["op"] for record in records))
    canvas, axis = plt.subplots(figsize=(7, 0.38 * len(names) + 1.3), layout="constrained")
    for direction, shift, style in (
        ("forward", 0.15, {"color": "#4063d8", "marker": "o"}),
        ("both", -0.15, {"color": "#d83b3b", "marker": "s"}),
    ):
        inside = [record for record in records if record.extra["direction"] == direction]
        axis.scatter(
            [100 * record.fraction for record in inside],
            [shift + len(names) - 1 - names.index(record.extra["op"]) for record in inside],
            s=18,
            alpha=0.8,
            label="forward" if direction == "forward" else "forward and backward",
            **style,
        )
    axis.axvline(60, color=_GREY, linewidth=0.8, linestyle=":")
    axis.axvline(100, color=_GREY, linewidth=0.8)
    axis.set_yticks(range(len(names)), reversed(names))
    axis.set(xlabel="% of this machine's limit, a dot a size", xlim=(0, None))
    axis.grid(axis="x", alpha=0.25)
    canvas.legend(loc="outside upper right", ncols=2, frameon=False)
    _save(canvas, path)


def _save(canvas: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    canvas.savefig(path.with_suffix(".png"), dpi=150, metadata={"Software": None})
    canvas.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(canvas)
