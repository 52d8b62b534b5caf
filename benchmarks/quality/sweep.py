"""`sweep`: guidance and steps, and how fast two samplers come near their result of 50 steps."""

from functools import cache

from benchmarks.quality.finding import Finding
from benchmarks.quality.models import Named, about, held_out
from benchmarks.quality.plots import Line, draw_lines
from benchmarks.quality.rows import Figure, Row, animate, rows_data
from unianimate.metrics import METRICS, mae
from unianimate.metrics.report import Table
from unianimate.pipelines import AnimatePipeline
from unianimate.pipelines.schedulers import SCHEDULERS, make_scheduler

GUIDANCE = (1.0, 1.5, 2.5)
STEPS = (10, 20, 30)
CURVE = (5, 8, 10, 15, 20, 30)
MANY = 50


def sweep(model: Named, count: int) -> Finding:
    """Measure one model over guidance and steps, and over steps and samplers."""
    pipeline = model.pipeline()
    shipped = pipeline.model.config.guidance
    cases = held_out(pipeline, count)

    @cache
    def made(scheduler: str, guidance: float, steps: int) -> Row:
        shift = pipeline.model.config.timestep_shift
        sampler = AnimatePipeline(pipeline.model, make_scheduler(scheduler, shift))
        options = {"guidance_scale": guidance, "num_inference_steps": steps}
        return animate(
            f"{scheduler}, guidance {guidance:g}, {steps} steps", sampler, cases, **options
        )

    guidances = sorted({*GUIDANCE, shipped})
    grid = {(g, n): made("ddim", g, n) for g in guidances for n in STEPS}
    tables = [
        (f"{METRICS[name].label}, by guidance and steps of DDIM:", _grid(grid, guidances, name))
        for name in ("psnr", "psnr_moving", "pose_error")
    ]
    many = {name: made(name, shipped, MANY) for name in SCHEDULERS}
    curves = {(name, n): made(name, shipped, n) for name in SCHEDULERS for n in CURVE}
    distances = {
        (*key, other): Figure.of([mae(a, b).mean() for a, b in zip(row.videos, far.videos)])
        for key, row in {**curves, **{(name, MANY): row for name, row in many.items()}}.items()
        for other, far in many.items()
    }
    tables.append(
        (
            f"Distance to the results of {MANY} steps (mean absolute difference of pixels, in grey "
            f"levels of 255) at guidance {shipped:g}, from the same noise:",
            _curve_table(curves | {(s, MANY): row for s, row in many.items()}, distances),
        )
    )
    lines = [
        Line(
            f"{name}, to its own {MANY} steps",
            CURVE,
            [distances[name, n, name] for n in CURVE],
        )
        for name in SCHEDULERS
    ]
    plot = draw_lines(lines, "steps", f"distance to {MANY} steps, grey levels", logarithmic=True)
    return Finding(
        about(pipeline, cases, steps=False),
        tables,
        {
            "rows": rows_data([*grid.values(), *curves.values(), *many.values()]),
            "distances": [
                {"sampler": s, "steps": n, f"to_{MANY}_steps_of": o, **figure._asdict()}
                for (s, n, o), figure in distances.items()
            ],
        },
        {"curve": (f"Distance to the result of {MANY} steps over the number of steps.", plot)},
    )


def _grid(grid: dict[tuple[float, int], Row], guidances: list[float], name: str) -> Table:
    digits = METRICS[name].digits
    table = [["guidance", *(f"{steps} steps" for steps in STEPS)]]
    for guidance in guidances:
        cells = [grid[guidance, steps].figure(name).text(digits) for steps in STEPS]
        table.append([f"{guidance:g}", *cells])
    return table


def _curve_table(
    rows: dict[tuple[str, int], Row], distances: dict[tuple[str, int, str], Figure]
) -> Table:
    table = [["sampler", "steps", *(f"to {s}, {MANY} steps" for s in SCHEDULERS), "PSNR, dB"]]
    for (name, steps), row in sorted(rows.items()):
        far = [distances[name, steps, other].text() for other in SCHEDULERS]
        table.append([name, str(steps), *far, row.figure("psnr").text()])
    return table
