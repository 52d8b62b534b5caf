"""Plots of the quality tables, as pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.quality.rows import Figure


class Line(NamedTuple):
    """One line of a plot, with its interval as a shade."""

    label: str
    x: Sequence[float]
    figures: Sequence[Figure]


def draw_lines(
    lines: Sequence[Line], x_label: str, y_label: str, *, logarithmic: bool = False
) -> np.ndarray:
    """Draw lines over one axis; return uint8 RGB (H, W, 3)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    canvas, axis = plt.subplots(figsize=(6.4, 3.6), dpi=130, layout="constrained")
    for line in lines:
        drawn = axis.plot(line.x, [f.mean for f in line.figures], "o-", label=line.label, ms=4)
        ends = [f.interval or (f.mean, f.mean) for f in line.figures]
        axis.fill_between(line.x, *zip(*ends), alpha=0.15, color=drawn[0].get_color())
    if logarithmic:
        axis.set(xscale="log", yscale="log")
        axis.set_xticks(sorted({x for line in lines for x in line.x}))
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)
    canvas.canvas.draw()
    picture = np.asarray(canvas.canvas.buffer_rgba())[..., :3].copy()
    plt.close(canvas)
    return picture
