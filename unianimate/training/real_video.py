"""Fit a model to the start of one real video, and animate its end."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from unianimate.data import PosedVideo, PosedVideos, VideoWriter
from unianimate.models.folders import model_folder
from unianimate.pipelines import AnimatePipeline, side_by_side_frames
from unianimate.training.cases import Case, Video, clip_case, evaluate_cases
from unianimate.training.config import TrainConfig, load_config
from unianimate.training.loop import Report
from unianimate.training.recipes import read_recipe
from unianimate.training.run import Progress, run_training

_DECODER = "video-decoder"


class FittedVideo(NamedTuple):
    """What came of a fitted video: metrics of the animated frames, and of copies of the photo."""

    animated: dict[str, float]
    copies: dict[str, float]

    @property
    def gain(self) -> float:
        """Decibels of PSNR above copying the photo."""
        return self.animated["psnr"] - self.copies["psnr"]


def fit_video(
    config: TrainConfig,
    folder: str | Path,
    *,
    test_frames: int = 50,
    decoder_steps: int = 300,
    report: Report | None = None,
    progress: Progress | None = None,
) -> FittedVideo:
    """Fit a trained model to the first frames of a video and animate the last from their poses.

    First the decoder of the autoencoder, so that latents keep their meaning; then what the
    configuration says. The first frame is the photo. Writes the animated frames, the same beside
    photo, pose and true frame, a contact sheet and ``metrics.json`` into the folder.

    Args:
        config: of the run; its data are one video, ``data.video_frames`` the frames it is fitted
            to, and the smallest of ``data.strides`` the step between the frames that are animated.
        folder: of the run; an old one goes on.
        test_frames: the last frames, which are animated and not fitted.
        decoder_steps: steps for the decoder; 0 leaves it as it is.
        report: told every line of the log.
        progress: told what is prepared, how much is done and how much there is in all.

    Raises:
        ValueError: the video is too short, or a setting does not fit.
        OSError: something cannot be read or written.
    """
    folder = Path(folder)
    data = config.data
    if data.kind != "video" or data.path is None or data.poses is None:
        raise ValueError("fit_video: data.kind must be video, with data.path and data.poses")
    config = dataclasses.replace(
        config,
        model=str(model_folder(config.model)),
        data=dataclasses.replace(data, cache=data.cache or str(folder / "cache")),
    )
    frames = _last_frames(config, test_frames)
    if decoder_steps:
        preset = read_recipe(_DECODER) | {
            "data": config.to_dict()["data"] | {"frames": [1]},
            "model": config.model,
            "seed": config.seed,
            "precision": config.precision,
            "steps": decoder_steps,
        }
        model = run_training(load_config(preset), folder / "decoder", progress=progress)
        config = dataclasses.replace(config, model=str(model))
    pipeline = AnimatePipeline.from_pretrained(
        run_training(config, folder, report=report, progress=progress)
    )
    size = pipeline.model.config
    video = PosedVideo(Path(data.path), Path(data.poses))
    videos = PosedVideos([video], size.width, size.height, fit=data.fit, enlarge=data.enlarge)
    case = clip_case(videos, 0, frames)
    made = case.animate(pipeline)
    _write(folder, case, made)
    result = FittedVideo(_means(case, made), _means(case, case.copy))
    text = json.dumps({**result._asdict(), "gain": result.gain, "frames": frames}, indent=2)
    (folder / "metrics.json").write_text(text + "\n")
    return result


def _last_frames(config: TrainConfig, count: int) -> list[int]:
    """Return the numbers of the frames that are animated."""
    data = config.data
    assert data.path is not None and data.poses is not None
    length = PosedVideos([PosedVideo(Path(data.path), Path(data.poses))], 1, 1).num_frames(0)
    if data.video_frames + count > length:
        raise ValueError(
            f"{data.path}: has {length} frames, too few to fit the first {data.video_frames} and "
            f"animate the last {count}: ask for fewer"
        )
    return list(range(length - count, length, min(data.strides)))


def _write(folder: Path, case: Case, made: Video) -> None:
    shown = side_by_side_frames(Image.fromarray(case.photo), case.poses, made)
    compared = (np.concatenate(pair, axis=1) for pair in zip(shown, case.truth))
    for name, frames in (("animated", iter(made)), ("side_by_side", compared)):
        # a run that goes on has those of the steps before
        shutil.rmtree(folder / name, ignore_errors=True)
        with VideoWriter(folder / name, fps=1) as writer:  # pictures, which have no rate
            for frame in frames:
                writer.write(frame)
    Image.fromarray(case.sheet(made)).save(folder / "contact_sheet.png")


def _means(case: Case, made: Video) -> dict[str, float]:
    done = evaluate_cases([case], [made])
    return {name: measure.mean for name, measure in done.measures.items()}
