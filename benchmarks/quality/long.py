"""`long`: what happens to a long video, by the three ways of making it."""

import time
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from benchmarks.quality.finding import Finding
from benchmarks.quality.models import Named, about, held_out
from benchmarks.quality.plots import Line, draw_lines
from benchmarks.quality.rows import Figure, Row, copies, judge, rows_data
from unianimate.metrics import psnr
from unianimate.metrics.report import Table
from unianimate.pipelines.animate import Long
from unianimate.training.cases import Case, Video


def long(model: Named, count: int, num_frames: int) -> Finding:
    """Measure long videos of one model, segment by segment."""
    pipeline = model.pipeline()
    size = pipeline.model.config.num_frames
    if num_frames < 2 * size or num_frames % size:
        raise ValueError(f"--frames must be at least two segments of {size}, got {num_frames}")
    cases = held_out(pipeline, count, num_frames)
    rows, seconds = {}, {}
    cases[0].animate(pipeline, num_frames=size)  # to warm up
    for way in get_args(Long):
        start = time.perf_counter()
        videos = [case.animate(pipeline, long=way) for case in tqdm(cases, desc=way)]
        seconds[way] = (time.perf_counter() - start) / count
        rows[way] = judge(way, cases, videos)
    rows["copying the reference"] = copies(cases)
    decibels = {label: _by_segment(row, cases, size) for label, row in rows.items()}
    colours = {label: _colours(row, cases, size) for label, row in rows.items()}

    starts = range(0, num_frames, size)
    lines = [
        Line(label, [s + size / 2 for s in starts], [Figure.of(column) for column in values.T])
        for label, values in decibels.items()
    ]
    median = int(np.argsort(rows["chain"].per_puppet("psnr"))[count // 2])
    return Finding(
        about(pipeline, cases) + f" Segments of {size} frames.",
        [
            (
                "The drift is the last segment less the first. The reference is one frame behind "
                "the last, so that a segment may be easier than another for any way: compare the "
                "drift of copying it. Warping error of the true videos: "
                f"{rows['chain'].figure('warping_error_truth').text()}.",
                _drift_table(rows, decibels, seconds),
            ),
            ("PSNR of every segment, dB:", _segment_table(decibels, starts, size)),
            (
                "Means and standard deviations of red, green and blue against those of the true "
                "frames, in grey levels (made less true):",
                _colour_table(colours),
            ),
        ],
        {
            "rows": rows_data(list(rows.values())),
            "segment_frames": size,
            "psnr_by_puppet_and_segment": {k: v.tolist() for k, v in decibels.items()},
            "colours_by_puppet_segment_and_channel": {
                label: {name: x.tolist() for name, x in values.items()}
                for label, values in colours.items()
            },
            "seconds_a_video": seconds,
        },
        {
            "segments": (
                "PSNR by segment, with the intervals over puppets.",
                draw_lines(lines, "frame", "PSNR, dB"),
            ),
            "chain": (
                f"By chain, puppet {median}, the median of {count}: poses, made frames and true "
                "frames, behind the reference.",
                cases[median].sheet(rows["chain"].videos[median], columns=10, height=128),
            ),
        },
    )


def _by_segment(row: Row, cases: list[Case], size: int) -> np.ndarray:
    """Return the PSNR (puppets, segments)."""
    values = [psnr(made, case.truth) for made, case in zip(row.videos, cases)]
    return np.stack(values).reshape(len(cases), -1, size).mean(axis=2)


def _colours(row: Row, cases: list[Case], size: int) -> dict[str, np.ndarray]:
    """Return how far mean and standard deviation of each channel are off (puppets, segments, 3)."""
    made, true = (
        np.stack([_channels(video, size) for video in videos])
        for videos in (row.videos, [case.truth for case in cases])
    )
    return {
        "mean": made.mean(axis=2) - true.mean(axis=2),
        "standard deviation": made.std(axis=2) - true.std(axis=2),
    }


def _channels(video: Video, size: int) -> np.ndarray:
    """Return the pixels of every segment (segments, pixels, 3)."""
    return video.reshape(len(video) // size, -1, 3).astype(np.float32)


def _drift_table(rows: dict[str, Row], decibels: dict, seconds: dict[str, float]) -> Table:
    head = ["", "first segment, dB", "last segment, dB", "drift, dB", "warping error, levels"]
    table = [[*head, "seconds a video"]]
    for label, row in rows.items():
        first, last = decibels[label][:, 0], decibels[label][:, -1]
        figures = [Figure.of(first).text(), Figure.of(last).text()]
        figures += [Figure.of(last - first).text(sign="+"), row.figure("warping_error").text()]
        time_taken = f"{seconds[label]:.0f}" if label in seconds else ""
        table.append([label, *figures, time_taken])
    return table


def _segment_table(decibels: dict[str, np.ndarray], starts: range, size: int) -> Table:
    table = [["frames", *decibels]]
    for number, start in enumerate(starts):
        figures = [Figure.of(values[:, number]).text() for values in decibels.values()]
        table.append([f"{start} to {start + size - 1}", *figures])
    return table


def _colour_table(colours: dict[str, dict[str, Any]]) -> Table:
    table = [["", "statistic", "first segment", "last segment", "largest of all, absolute"]]
    for label, statistics in colours.items():
        for name, off in statistics.items():
            means = off.mean(axis=0)
            ends = [", ".join(f"{x:+.1f}" for x in means[end]) for end in (0, -1)]
            table.append([label, name, *ends, f"{np.abs(means).max():.1f}"])
    return table
