"""TrainConfig: everything a training run is told, read from YAML over a preset."""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

_FORBID = ConfigDict(extra="forbid")

Count = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=_FORBID)
class DataConfig:
    """Which videos, and how clips are cut out of them.

    Attributes:
        kind: procedural puppets, a folder of videos with poses, one of the public data sets, or a
            single video.
        path: the folder, or the video; puppets have none.
        poses: the folder of their poses; None: they are beside the videos. The pose file of a
            single video.
        fit: how pictures of another shape are brought to the model's: "crop" or "stretch".
        enlarge: take videos that are smaller than the model's pictures.
        validation: a folder of videos of the same kind to make samples of; None takes the test
            videos of a public data set, and puppets that training never meets.
        cache: a folder where pictures, poses and latents are kept; None reads them every time.
        count: puppets to render.
        first: index of the first puppet.
        video_frames: frames rendered of every puppet, or used of a single video.
        frames: lengths of clips; each step takes one of them.
        strides: steps between frames to choose from.
        reversal: probability that a clip runs backwards.
        workers: processes that read.
    """

    kind: Literal["puppets", "folder", "tiktok", "fashion", "video"] = "puppets"
    path: str | None = None
    poses: str | None = None
    fit: Literal["crop", "stretch"] = "crop"
    enlarge: bool = False
    validation: str | None = None
    cache: str | None = None
    count: Count = 3600
    first: Steps = 0
    video_frames: Count = 24
    frames: tuple[Count, ...] = (16, 32)
    strides: tuple[Count, ...] = (1, 2)
    reversal: Share = 0.0
    workers: Steps = 2


@dataclass(frozen=True, kw_only=True, config=_FORBID)
class OptimizerConfig:
    """The optimizer, and how its learning rate goes up, stays and comes down.

    Attributes:
        kind: "adamw", or "muon", which moves matrices and convolutions by orthogonalised momentum
            (`unianimate.training.muon`) and learns more from a step.
        learning_rate: at the plateau.
        warmup: steps from 0 to it.
        decay: steps, the last of the run, over which it falls linearly.
        final: what it falls to, as a share of the plateau.
        betas: of AdamW.
        weight_decay: of AdamW.
        clip: largest norm of the gradient; .inf clips nothing.
        ema: decay of the moving average of the weights; 0 keeps none.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    learning_rate: Positive = 5e-5
    warmup: Steps = 100
    decay: Steps = 0
    final: Share = 0.02
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: Amount = 0.01
    clip: Positive = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999


@dataclass(frozen=True, kw_only=True, config=_FORBID)
class DiffusionConfig:
    """How the network is taught (UniAnimate, arXiv 2406.01188, and its released classes).

    Attributes:
        offset_noise: share of noise that is constant over a frame and channel.
        timestep_shift: how much likelier noisy timesteps are: u in [0, 1] becomes
            shift u / (1 + (shift - 1) u), arXiv 2403.03206; 1 is uniform, as the official system.
        snr_gamma: weight of a timestep is min(SNR, gamma) / (SNR + 1), arXiv 2303.09556; None
            weighs all alike. Steps of `scheduled_sampling` are not weighed.
        scheduled_sampling: probability that the clips of a step are noised from what the network
            makes of pure noise, not from the truth, which is still what it is asked for: it learns
            to mend its own estimates, as sampling gives it nothing else (exposure bias). The error
            of such a step is that of the clean latents, not of the velocity.
        pixel_weight: of the squared error of the decoded pictures, in [-1, 1], beside that of the
            latents (arXiv 2409.17565): what no pixel shows is then learnt last.
        drop: probability that poses, first frame or image tokens are dropped, each on its own.
        drop_all: probability that all of them are.
        keep_all: probability that none is.
        drop_reference: a clip that lost all of them loses its reference, too. The official network
            was not taught so; guidance then starts from nothing, as it does in sampling.
        first_frame: probability that a clip is told its first frame.
        first_frame_noise: largest strength of the noise and colour shift put on that frame, so
            that chained segments do not trust it more than they should.
        reference_pose: tell the network the pose of the reference. Without, it sees a black
            picture in its place: to measure what that pose is good for.
        train: parts that are trained: regular expressions for names of parameters of the model.
        lora_rank: 0 trains these parts themselves; otherwise they are frozen, and every matrix and
            convolution among them gets an update of this rank (LoRA, arXiv 2106.09685), which is
            added to it when the model is written.
        lora_scale: what that update is multiplied by.
    """

    offset_noise: Amount = 0.1
    timestep_shift: Positive = 1.0
    snr_gamma: Positive | None = None
    scheduled_sampling: Share = 0.0
    pixel_weight: Amount = 0.0
    drop: Share = 0.5
    drop_all: Share = 0.1
    keep_all: Share = 0.1
    drop_reference: bool = False
    first_frame: Share = 0.5
    first_frame_noise: Amount = 0.0
    reference_pose: bool = True
    train: tuple[str, ...] = (r"unet\.",)
    lora_rank: Steps = 0
    lora_scale: float = 1.0


@dataclass(frozen=True, kw_only=True, config=_FORBID)
class VAEConfig:
    """How an autoencoder is trained: squared error, a divergence, and noise on the latents.

    Attributes:
        kl_weight: of the divergence from N(0, 1), a latent number.
        latent_noise: standard deviation of noise added to latents before decoding.
        train: parts that are trained: regular expressions for names of parameters of the
            autoencoder. With the decoder's parts alone latents keep their meaning, and a network
            trained on them still fits.
    """

    kl_weight: Amount = 1e-5
    latent_noise: Amount = 0.05
    train: tuple[str, ...] = ("",)


@dataclass(frozen=True, kw_only=True, config=_FORBID)
class TrainConfig:
    """A training run.

    Attributes:
        stage: what is trained: the autoencoder, the video network, or new temporal mixers that
            imitate the old ones layer by layer.
        model: a preset, to start from random weights, or a model folder or its name.
        pretrained: `model` names a trained model, even where a preset has that name.
        temporal: replace the temporal mixers by these: transformer, mamba or mamba2.
        steps: optimiser steps in all.
        batch_size: clips a step (pictures for the autoencoder), over all processes.
        accumulation: parts a step's clips are run in, one after the other.
        precision: of the computation; weights are float32.
        gradient_checkpointing: recompute activations in the backward pass.
        sharded: spread weights, gradients and the optimizer's state over all processes (FSDP2)
            instead of keeping them whole in each.
        seed: of every random choice.
        save_every: steps between checkpoints.
        keep: checkpoints that are kept.
        log_every: steps between lines of the log.
        sample_every: steps between samples and their metrics; 0 makes none.
        samples: clips that are sampled then.
    """

    stage: Literal["vae", "diffusion", "distill"] = "diffusion"
    model: str = "unianimate-v1"
    pretrained: bool = False
    temporal: Literal["transformer", "mamba", "mamba2"] | None = None
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    steps: Count = 10000
    batch_size: Count = 8
    accumulation: Count = 1
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    gradient_checkpointing: bool = False
    sharded: bool = False
    seed: Steps = 0
    save_every: Count = 500
    keep: Count = 2
    log_every: Count = 10
    sample_every: Steps = 0
    samples: Count = 4

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as it is written to YAML."""
        data: dict[str, Any] = TypeAdapter(TrainConfig).dump_python(self, mode="json")
        return data


def load_config(
    preset: Mapping[str, Any],
    overlay: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> TrainConfig:
    """Lay a YAML file and single settings over a preset.

    Args:
        preset: plain data of a `TrainConfig`.
        overlay: a YAML file with any of its keys.
        settings: ``optimizer.learning_rate`` -> ``1e-4`` and the like, values in YAML.

    Raises:
        ValueError: a key is unknown (the message names the nearest one) or a value does not fit.
    """
    data: dict[str, Any] = _copy(preset)
    if overlay is not None:
        try:
            given = yaml.safe_load(overlay.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"{overlay}: cannot be read as YAML: {_one_line(error)}") from error
        if not isinstance(given, dict):
            raise ValueError(f"{overlay}: must hold settings (key: value), got {given!r}")
        _lay_over(data, given, TrainConfig, str(overlay))
    for name, value in (settings or {}).items():
        try:
            nested: Any = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"{name}: cannot be read as YAML: {_one_line(error)}") from error
        for key in reversed(name.split(".")):
            nested = {key: nested}
        _lay_over(data, nested, TrainConfig, name)
    try:
        return TypeAdapter(TrainConfig).validate_python(data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}: {first['msg'].lower()}, got {first['input']!r}") from error


def _lay_over(data: dict[str, Any], given: Mapping[str, Any], cls: type, source: str) -> None:
    """Put the values of `given` into `data`; both have the keys of the dataclass `cls`."""
    fields: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(cls)}
    for key, value in given.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(fields)}"
            raise ValueError(f"{source}: unknown setting {key!r}; {hint}")
        if dataclasses.is_dataclass(fields[key]):
            if not isinstance(value, Mapping):
                raise ValueError(f"{source}: {key} must hold settings, got {value!r}")
            _lay_over(data.setdefault(key, {}), value, fields[key], source)
        else:
            data[key] = value


def _copy(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(x) if isinstance(x, Mapping) else x for key, x in data.items()}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
