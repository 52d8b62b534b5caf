"""A page of frames side by side: one HTML file that needs nothing else."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from ._frames import Bytes, resize_frames, video_to_bytes
from .catalogue import METRICS
from .evaluate import Evaluation

# videos are shown from the worst to the best; of many, so many each: worst, middle, best
_SHOWN = 4
_COLUMNS, _HEIGHT = 6, 160
_CAPTIONS = ("psnr", "psnr_moving", "ssim", "pose_error", "identity_color_error")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { border-bottom: 1px solid #ccc; padding: .2rem .8rem .2rem 0; text-align: left }
figure { margin: 1rem 0 2rem }
img { display: block; max-width: 100% }
"""


def render_page(
    evaluation: Evaluation,
    tables: Sequence[tuple[str, list[list[str]]]],
    generated: Sequence[ArrayLike],
    truth: Sequence[ArrayLike],
) -> str:
    """Return the page as HTML, with its pictures inside.

    Under the tables each video is one picture of three rows: true frames, generated frames, and
    their absolute difference. More than twelve videos are shown by the four worst, four in the
    middle and the four best by PSNR.

    Args:
        evaluation: of these videos.
        tables: titles and rows of text, the first row the heading.
        generated: videos (F, H, W, 3).
        truth: likewise.
    """
    order, chosen = _chosen(evaluation.measures["psnr"].per_video)
    title = f"{chosen}: true frames above, generated below them, then the difference"
    body = [_table(text, rows) for text, rows in tables]
    body.append(f"<h2>{html.escape(title)}</h2>")
    for index in order:
        size = evaluation.width[index], evaluation.height[index]
        body.append(_figure(evaluation, index, generated[index], truth[index], size))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Evaluation</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        "<h1>Evaluation</h1>\n" + "\n".join(body) + "\n</body>\n</html>"
    )


def side_by_side(generated: Bytes, truth: Bytes) -> Bytes:
    """Return evenly chosen frames of two videos of one size as rows: true, generated, difference.

    Returns:
        uint8 (3 h, n w, 3), n at most 6, h near 160 pixels.
    """
    frames = np.linspace(0, len(truth) - 1, min(_COLUMNS, len(truth))).round().astype(int)
    a, b = generated[frames], truth[frames]
    difference = np.abs(a.astype(np.int16) - b).astype(np.uint8)
    height, width = b.shape[1:3]
    size = (max(1, round(width * _HEIGHT / height)), _HEIGHT)
    # small frames are shown as they are, pixel by pixel
    how = Image.Resampling.LANCZOS if height > _HEIGHT else Image.Resampling.NEAREST
    return np.concatenate(
        [
            np.concatenate([np.asarray(Image.fromarray(x).resize(size, how)) for x in row], axis=1)
            for row in (b, a, difference)
        ]
    )


def _chosen(scores: Sequence[float]) -> tuple[list[int], str]:
    """Return which videos are shown, from the worst to the best, and the words for them."""
    ranks = [int(index) for index in np.argsort(scores)]
    if len(ranks) <= 3 * _SHOWN:
        return ranks, "All videos, from the lowest to the highest PSNR"
    middle = (len(ranks) - _SHOWN) // 2
    chosen = [*ranks[:_SHOWN], *ranks[middle : middle + _SHOWN], *ranks[-_SHOWN:]]
    return chosen, f"{_SHOWN} videos of lowest, middle and highest PSNR"


def _figure(
    evaluation: Evaluation,
    index: int,
    generated: ArrayLike,
    truth: ArrayLike,
    size: tuple[int, int],
) -> str:
    made, real = (resize_frames(video_to_bytes(video), *size) for video in (generated, truth))
    figures = [
        f"{METRICS[name].label} {value:.{METRICS[name].digits}f} {METRICS[name].unit}".strip()
        for name in _CAPTIONS
        if name in evaluation.measures
        and np.isfinite(value := evaluation.measures[name].per_video[index])
    ]
    name = html.escape(evaluation.videos[index])
    return (
        f"<figure>\n<figcaption><b>{name}</b>: {html.escape(', '.join(figures))}</figcaption>\n"
        f'<img alt="{name}" src="{_embedded(side_by_side(made, real))}">\n</figure>'
    )


def _embedded(picture: Bytes) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _table(title: str, rows: list[list[str]]) -> str:
    lines = []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        cells = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    table = "\n".join(lines)
    return f"<h2>{html.escape(title)}</h2>\n<table>\n{table}\n</table>"
