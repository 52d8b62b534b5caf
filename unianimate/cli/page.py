"""The web page: a photo and a driving video in, the video and a preview of its poses out."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from unianimate.data import VideoWriter, open_picture
from unianimate.pipelines import SCHEDULERS, AnimatePipeline, make_scheduler
from unianimate.pose import PoseSource

from .inputs import driving_poses

_LONG, _FITS = ("window", "chain", "single"), ("stretch", "pad", "crop")
_SEED = 7
_HOUR = 3600
_NOTHING_CHOSEN = "Choose a photo, and a driving video or a pose file (.npz)."


def build_page(pipeline: AnimatePipeline, folder: Path, *, low_memory: bool = False) -> gr.Blocks:
    """Return the page.

    Args:
        pipeline: makes the videos, one at a time.
        folder: where they are written; outside the folder that gradio serves files from, where
            they stay for a day.
        low_memory: make them in less memory, more slowly.
    """
    config = pipeline.model.config

    def animate(
        photo: str | None,
        driving: str | None,
        photo_pose: str | None,
        long: str,
        scheduler: str,
        steps: float,
        guidance: float,
        frames: float | None,
        fit: str,
        seed: float | None,
        progress: Any = gr.Progress(),  # noqa: B008  # how gradio recognises it
    ) -> Iterator[tuple[str | None, str | None, str]]:
        if photo is None or driving is None:
            raise gr.Error(_NOTHING_CHOSEN, print_exception=False)
        started = time.perf_counter()
        wanted = int(frames or 0) or None
        # gradio serves copies of what it is given: nothing stays here
        with _errors_on_page(), tempfile.TemporaryDirectory(dir=folder) as work:
            picture = open_picture(photo)
            named = None if photo_pose is None else Path(photo_pose)
            poses = driving_poses(Path(photo), picture, Path(driving), named, False, 1, wanted)
            count = min(wanted or poses.num_frames, poses.num_frames)
            preview = _write_preview(Path(work, "poses.mp4"), poses, count)
            yield preview, None, f"{count} poses"
            pipeline.scheduler = make_scheduler(scheduler, config.timestep_shift)
            video = Path(work, "video.mp4")
            with VideoWriter(video, poses.fps) as writer:
                for frame in pipeline.stream(
                    picture,
                    poses,
                    num_frames=count,
                    num_inference_steps=int(steps),
                    guidance_scale=guidance,
                    seed=_SEED if seed is None else int(seed),
                    long=long,  # type: ignore[arg-type]  # one of the choices below
                    fit=fit,  # type: ignore[arg-type]
                    low_memory=low_memory,
                    progress=lambda done, total: progress((done, total), unit="steps"),
                ):
                    writer.write(frame)
            seconds = time.perf_counter() - started
            yield preview, str(video), f"{count} frames in {seconds:.0f} s"

    kept = (_HOUR, 24 * _HOUR)  # every hour, what is older than a day is removed
    with gr.Blocks(title="unianimate", analytics_enabled=False, delete_cache=kept) as page:
        gr.Markdown("# unianimate\nAnimate a photo of a person by the poses of a video.")
        with gr.Row():
            with gr.Column():
                photo = gr.Image(
                    label="Photo", type="filepath", image_mode=None, sources=["upload"], height=320
                )
                driving = gr.File(
                    label="Driving video, or pose file (.npz)", file_types=["video", ".npz"]
                )
                photo_pose = gr.File(
                    label="Pose of the photo (.npz); found by DWPose if left out",
                    file_types=[".npz"],
                    height=100,
                )
                with gr.Accordion("Options", open=False):
                    long = gr.Radio(_LONG, value="window", label="Long videos")
                    scheduler = gr.Radio(SCHEDULERS, value="ddim", label="Scheduler")
                    steps = gr.Slider(1, 100, config.steps, step=1, label="Steps")
                    guidance = gr.Slider(
                        1, 10, config.guidance, step=0.1, label="Guidance (1: none, faster)"
                    )
                    frames = gr.Number(0, precision=0, minimum=0, label="Frames (0: all)")
                    fit = gr.Radio(_FITS, value="stretch", label="Fit of the photo")
                    seed = gr.Number(_SEED, precision=0, minimum=0, label="Seed")
                button = gr.Button("Animate", variant="primary")
            with gr.Column():
                with gr.Row():
                    shown = {"interactive": False, "autoplay": True, "loop": True, "height": 420}
                    result = gr.Video(label="Video", **shown)
                    preview = gr.Video(label="Poses", **shown)
                status = gr.Textbox(label="Status", interactive=False)
        scheduler.change(
            lambda name: AnimatePipeline(pipeline.model, make_scheduler(name)).default_steps,
            scheduler,
            steps,
            show_progress="hidden",
            api_visibility="private",
        )
        button.click(
            animate,
            [photo, driving, photo_pose, long, scheduler, steps, guidance, frames, fit, seed],
            [preview, result, status],
            api_name="animate",
            show_progress_on=[result],
            concurrency_limit=1,
        )
    return page


@contextmanager
def _errors_on_page() -> Iterator[None]:
    """Show on the page what the user can mend."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        raise gr.Error(str(error), print_exception=False) from error


def _write_preview(path: Path, poses: PoseSource, count: int) -> str:
    with VideoWriter(path, poses.fps) as writer:
        for index in range(count):
            writer.write(poses.read([index])[0])
    return str(path)


def serve(page: gr.Blocks, port: int | None = None) -> str:
    """Serve a page to this machine in the background, without any external request.

    Args:
        page: what `build_page` returned.
        port: to listen at; None takes the first free one from 7860 on.

    Returns:
        Its address.

    Raises:
        OSError: the port is taken.
    """
    system = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    _, url, _ = page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        inbrowser=False,
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        theme=system,
        footer_links=[],
        show_error=True,
    )
    return str(url)
