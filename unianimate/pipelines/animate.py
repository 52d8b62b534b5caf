"""`AnimatePipeline`: a photo and a sequence of poses to video."""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unianimate.blocks import NoiseScheduler, UnifiedNoise
from unianimate.data import fit_picture
from unianimate.data.pictures import Fit
from unianimate.models import UniAnimate, predict_both
from unianimate.models.unet3d import Conditions
from unianimate.pose import PoseSource
from unianimate_kernels import keep_packed_weights

from .checkpoint import Checkpoint, Nowhere, SamplerState, Store, recall, scheduler_memory
from .denoise import denoise
from .distributed import ALONE, Processes, SharedStore
from .fingerprint import (
    array_digest,
    environment,
    model_digest,
    scheduler_digest,
    text_digest,
)
from .long_video import Chain, LongVideo, Segment, Single, Window, make_video

Long = Literal["window", "chain", "single"]
Progress = Callable[[int, int], None]

# the first windows keep their encoded poses from one step to the next; others are encoded again
_KEPT_WINDOWS = 8


class AnimatePipeline:
    """Animate a photo: the model, a schedule, and the way long videos are made.

    Example:
        >>> pipeline = AnimatePipeline.from_pretrained("small")
        >>> poses = DrawnPoses(align_pose(driving, reference), reference)
        >>> frames = pipeline(Image.open("photo.jpg"), poses, seed=7)

    Args:
        model: a `UniAnimate` in evaluation mode.
        scheduler: a `NoiseScheduler`, or any diffusers scheduler; None is DDIM with the
            model's `timestep_shift`.
        processes: share the windows of one video, see `torchrun_processes`; each calls alike, and
            only the first gets frames.
    """

    def __init__(
        self, model: UniAnimate, scheduler: Any = None, *, processes: Processes = ALONE
    ) -> None:
        self.model = model
        if scheduler is None:
            scheduler = NoiseScheduler(timestep_shift=model.config.timestep_shift)
        self.scheduler = scheduler
        self.processes = processes

    @classmethod
    def from_pretrained(cls, model: str | Path, **options: Any) -> "AnimatePipeline":
        """Read a model folder; the options are those of `UniAnimate.from_pretrained`."""
        return cls(UniAnimate.from_pretrained(model, **options))

    def __call__(
        self, reference: Image.Image, poses: PoseSource, **options: Any
    ) -> NDArray[np.uint8]:
        """Return all frames, uint8 RGB (F, H, W, 3); the options are those of `stream`.

        Processes other than the first get none: F is 0.
        """
        frames = list(self.stream(reference, poses, **options))
        return np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8)

    @torch.no_grad()
    def stream(
        self,
        reference: Image.Image,
        poses: PoseSource,
        *,
        width: int | None = None,
        height: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int = 7,
        long: Long | LongVideo = "window",
        fit: Fit = "stretch",
        low_memory: bool = False,
        progress: Progress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames, uint8 RGB (H, W, 3), as soon as they are final.

        What is None is taken from the model's configuration.

        Args:
            reference: the photo, upright RGB.
            poses: the driving poses and the reference's.
            width: of the video in pixels, a multiple of `size_multiple`.
            height: likewise.
            num_frames: at most so many; None takes all poses.
            num_inference_steps: sampling steps; None takes `default_steps`.
            guidance_scale: of classifier-free guidance; 1.0 skips the second pass.
            seed: of all random draws, which are made on the CPU.
            long: how more frames than the network sees at once are made.
            fit: how the photo is brought to the size.
            low_memory: run the two passes of guidance one after the other, keep no weights packed,
                and decode frame by frame.
            progress: called after each step with steps done and steps in all.
            checkpoint: keeps what is finished, so that an interrupted run can go on; the frames
                it has are yielded first.

        Raises:
            ValueError: sizes that do not fit the model, no frames, an unknown word, a checkpoint of
                another run, or several processes and no windows to share.
        """
        config = self.model.config
        way = self._way(long) if isinstance(long, str) else long
        settings: dict[str, Any] = {
            "width": config.width if width is None else width,
            "height": config.height if height is None else height,
            "num_frames": _frames(poses, num_frames),
            "guidance_scale": config.guidance if guidance_scale is None else guidance_scale,
            "seed": operator.index(seed),
            "fit": fit,
            "low_memory": low_memory,
        }
        segments = way.segments(settings["num_frames"])
        # the next segment starts from a picture, and only the first process decodes
        can_share = len(segments) == 1 and segments[0].windows is not None
        if self.processes.size > 1 and not can_share:
            raise ValueError(
                f"{self.processes.size} processes can share windows only: choose the long way "
                f"'window', or one process"
            )
        steps = self.default_steps if num_inference_steps is None else num_inference_steps
        run = _Run(self, reference, poses, steps, **settings)
        store: Store = Nowhere()
        if checkpoint is not None and self.processes.is_first:
            store = checkpoint
            checkpoint.open(
                {
                    **settings,
                    "steps": steps,
                    "long": _name(way, segments),
                    "scheduler": scheduler_digest(self.scheduler),
                    "photo": array_digest(np.asarray(reference.convert("RGB"))),
                    "poses": poses.digest,
                    "model": model_digest(self.model),
                    **environment(self.model),
                }
            )
        if self.processes.size > 1:
            store = SharedStore(store, self.processes)
        run.report(progress, len(segments), store)
        yield from make_video(run, segments, store)

    @property
    def default_steps(self) -> int:
        """Sampling steps if none are named: the model's, half of them by a second-order solver."""
        order = getattr(getattr(self.scheduler, "config", None), "solver_order", 1)
        return math.ceil(self.model.config.steps / min(order, 2))

    @property
    def size_multiple(self) -> int:
        """Width and height must be multiples of this."""
        return self.model.config.unet.size_multiple

    def _way(self, name: str) -> LongVideo:
        size = self.model.config.num_frames
        match name:
            case "window":
                return Window(size, size // 4)
            case "chain":
                return Chain(size)
            case "single":
                return Single()
        raise ValueError(f"long must be window, chain or single, got {name!r}")


class _Run:
    """One video in the making: the encoded reference, and what the ways of long video ask for."""

    def __init__(
        self,
        pipeline: AnimatePipeline,
        reference: Image.Image,
        poses: PoseSource,
        steps: int,
        *,
        width: int,
        height: int,
        num_frames: int,
        guidance_scale: float,
        seed: int,
        fit: Fit,
        low_memory: bool,
    ) -> None:
        multiple = pipeline.size_multiple
        if width < 1 or height < 1 or width % multiple or height % multiple:
            raise ValueError(
                f"width and height must be multiples of {multiple} for this model, "
                f"got {width} x {height}"
            )
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must be 0 to 2**64 - 1, got {seed}")
        if not math.isfinite(guidance_scale):
            raise ValueError(f"guidance_scale must be a number, got {guidance_scale}")
        self.model, self.scheduler = pipeline.model, pipeline.scheduler
        self.processes = pipeline.processes
        self.scheduler.set_timesteps(steps)
        self.poses, self._steps = poses, steps
        self.size = (width, height)
        self.guidance_scale, self.low_memory = guidance_scale, low_memory
        self.generator = torch.Generator().manual_seed(seed)
        device = self.model.device
        picture = _to_tensor(np.asarray(fit_picture(reference.convert("RGB"), *self.size, fit)))
        with self.model.using("image_encoder"):
            self.image_embeds = self.model.image_encoder.encode(reference)
        with self.model.using("vae"):
            self.reference_latents = self.model.vae.encode(
                2 * picture[None].to(device) - 1, generator=self.generator
            )
        height_width = self.reference_latents.shape[2:]
        self._latent_size = (height_width[0], height_width[1])
        self.reference_pose = self._picture(poses.reference())
        self.text_embeds = self.model.text_embeds.to(device)
        self._progress: Progress | None = None
        self._steps_in_all = 0
        self._store: Store = Nowhere()

    def report(self, progress: Progress | None, segments: int, store: Store) -> None:
        """Tell ``progress`` and ``store`` of every step from now on."""
        self._progress, self._store = progress, store
        self._steps_in_all = segments * len(self.scheduler.timesteps)

    def sample(
        self, number: int, segment: Segment, first_frame: Tensor | None, state: SamplerState | None
    ) -> Tensor:
        """Return clean latents (1, C, F, h, w) of a segment, from noise or from a state on."""
        # multistep schedulers begin anew
        self.scheduler.set_timesteps(self._steps)
        if state is None:
            latents, first_step = self._start(segment), 0
        else:
            latents, first_step = state.latents.to(self.model.device), state.step
            self.generator.set_state(state.generator)
            recall(self.scheduler, state.scheduler, latents)

        def step_done(step: int, timestep: Tensor, latents: Tensor) -> None:
            self._store.save(
                SamplerState(
                    segment=number,
                    step=step + 1,
                    latents=latents,
                    generator=self.generator.get_state(),
                    scheduler=scheduler_memory(self.scheduler),
                    first_frame=first_frame,
                )
            )
            if self._progress is not None:
                done = number * len(self.scheduler.timesteps) + step + 1
                self._progress(done, self._steps_in_all)

        kept: dict[tuple[int, ...], Conditions] = {}

        def conditions(window: tuple[int, ...]) -> Conditions:
            if window in kept:
                return kept[window]
            made = self._conditions([segment.frames[i] for i in window], first_frame)
            # not those used last: the windows come round in order, and each would be gone by then
            if len(kept) < _KEPT_WINDOWS:
                kept[window] = made
            return made

        # no weight changes until the segment is done, but packed ones take memory beside them
        packed = nullcontext() if self.low_memory else keep_packed_weights()
        with self.model.using("unet"), packed:
            unet = self.model.unet

            def predict(
                latents: Tensor, timestep: Tensor, window: tuple[int, ...]
            ) -> tuple[Tensor, Tensor | None]:
                wanted = conditions(window)
                t = timestep.reshape(1).to(latents.device)
                if self.guidance_scale == 1:
                    return unet(latents, t, wanted), None
                nothing = self._nothing(len(window))
                return predict_both(unet, latents, t, wanted, nothing, low_memory=self.low_memory)

            return denoise(
                predict,
                latents,
                self.scheduler,
                guidance_scale=self.guidance_scale,
                windows=segment.windows,
                generator=self.generator,
                callback=step_done,
                processes=self.processes,
                first_step=first_step,
            )

    def decode(self, latents: Tensor, start: int) -> Iterator[tuple[int, Tensor]]:
        """Yield index and picture (3, H, W) in [0, 1] of the frames from about ``start`` on."""
        if not self.processes.is_first:
            return
        at_once = 1 if self.low_memory else 2
        # frames are decoded in the same company wherever decoding begins: the bits depend on it
        start -= start % at_once
        frames = latents[0, :, start:].unbind(1)
        with self.model.using("vae"):
            pictures = self.model.vae.decode_stream(frames, chunk_size=at_once)
            for index, picture in enumerate(pictures, start):
                yield index, (picture.float() * 0.5 + 0.5).clamp(0, 1)

    def _start(self, segment: Segment) -> Tensor:
        """Draw start noise (1, C, F, h, w)."""
        latents = self.reference_latents
        noise = UnifiedNoise(
            NoiseScheduler(),
            prior_timestep=segment.prior_timestep,
            offset_inside=segment.offset_inside,
        )
        shape = (1, latents.shape[1], len(segment.frames), *latents.shape[2:])
        # drawn where the generator is: the numbers do not depend on the device
        return noise(shape, reference_latents=latents.float().cpu(), generator=self.generator).to(
            latents.device
        )

    def _conditions(self, frames: Sequence[int], first_frame: Tensor | None) -> Conditions:
        pose = torch.stack([self._picture(p)[0] for p in self.poses.read(frames)], dim=1)
        return self.model.unet.encode_conditions(
            self.text_embeds,
            num_frames=len(frames),
            latent_size=self._latent_size,
            image_embeds=self.image_embeds,
            pose=pose[None],
            reference_pose=self.reference_pose,
            reference_latents=self.reference_latents,
            first_frame=None if first_frame is None else first_frame[None].to(self.model.device),
        )

    def _nothing(self, num_frames: int) -> Conditions:
        return self.model.unet.encode_conditions(
            self.text_embeds,
            num_frames=num_frames,
            latent_size=self._latent_size,
        )

    def _picture(self, picture: NDArray[np.uint8]) -> Tensor:
        """Return a pose picture as (1, 3, H, W) in [0, 1] at the size of the video."""
        stretched = fit_picture(Image.fromarray(picture), *self.size, "stretch")
        return _to_tensor(np.asarray(stretched))[None].to(self.model.device)


def _name(way: LongVideo, segments: Sequence[Segment]) -> str:
    """Return what tells a way from others, in any process; a plain object's repr does not."""
    if is_dataclass(way):
        return repr(way)
    return f"{type(way).__name__} of segments {text_digest(repr(segments))}"


def _frames(poses: PoseSource, wanted: int | None) -> int:
    """Return how many frames the video has."""
    if poses.num_frames < 1:
        raise ValueError("there are no poses, so there is no video to make")
    if wanted is not None and wanted < 1:
        raise ValueError(f"num_frames must be at least 1, got {wanted}")
    return poses.num_frames if wanted is None else min(poses.num_frames, wanted)


def _to_tensor(picture: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
