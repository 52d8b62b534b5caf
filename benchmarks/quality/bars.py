"""`bars`: how far a model is above what needs no model, and above itself with wrong poses."""

import numpy as np
import torch

from benchmarks.quality.finding import Finding
from benchmarks.quality.models import Named, about, held_out
from benchmarks.quality.rows import (
    Row,
    animate,
    copies,
    gains_table,
    judge,
    quality_table,
    rows_data,
)
from unianimate.models import UniAnimate
from unianimate.training.cases import Case, Video


def bars(model: Named, count: int) -> Finding:
    """Measure one model at guidance 1.0 and at the guidance of its configuration."""
    pipeline = model.pipeline()
    shipped = pipeline.model.config.guidance
    cases = held_out(pipeline, count)
    wrong = held_out(pipeline, count, other_poses=True)
    copied = copies(cases)
    ceiling = judge(
        "the true frames through the autoencoder",
        cases,
        [through_autoencoder(pipeline.model, case.truth) for case in cases],
    )
    ours = {
        scale: animate(_at(scale, shipped), pipeline, cases, guidance_scale=scale)
        for scale in sorted({1.0, shipped})
    }
    best = ours[shipped]
    other = animate("the same with another clip's poses", pipeline, wrong, guidance_scale=shipped)
    moving = best.figure("moving_share")
    rows = [copied, other, *ours.values(), ceiling]
    gains = [
        (f"{row.label}, {what} above {base.label}", row.gains(base, name))
        for row in ours.values()
        for base in (copied, other)
        for what, name in (("all pixels", "psnr"), ("moving pixels", "psnr_moving"))
    ]
    return Finding(
        about(pipeline, cases) + f" {100 * moving.mean:.0f} % of the pixels move.",
        [("", quality_table(rows, copied)), ("", gains_table(gains))],
        {"shipped_guidance": shipped, "rows": rows_data(rows)},
        _sheets(cases, best, copied),
    )


def through_autoencoder(model: UniAnimate, video: Video) -> Video:
    """Encode and decode a video: no model of these latents can be better."""
    pixels = torch.from_numpy(video).permute(0, 3, 1, 2).float().to(model.device) / 127.5 - 1
    with torch.no_grad():
        back = model.vae.decode(model.vae.encode(pixels, mean=True))
    # truncated, as the pipeline does
    unit = (back * 0.5 + 0.5).clamp(0, 1)
    return np.asarray((unit * 255).byte().permute(0, 2, 3, 1).cpu().numpy())


def _at(scale: float, shipped: float) -> str:
    return f"guidance {scale:g}" + (" (shipped)" if scale == shipped else "")


def _sheets(cases: list[Case], row: Row, base: Row) -> dict[str, tuple[str, np.ndarray]]:
    """Return contact sheets of the puppets that gained most, least, and as much as the median."""
    gains = row.gains(base)
    order = np.argsort(gains)
    places = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    return {
        name: (
            f"The {name} of {len(cases)}, puppet {index}, {gains[index]:+.1f} dB above "
            f"{base.label}: poses, made frames and true frames, behind the reference.",
            cases[index].sheet(row.videos[index]),
        )
        for name, index in places.items()
    }
