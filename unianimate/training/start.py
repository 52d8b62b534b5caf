"""The model that a run starts from."""

import dataclasses
from pathlib import Path

import torch

from unianimate.models import (
    PRESETS,
    Mamba2Spec,
    MambaSpec,
    TemporalTransformerSpec,
    UniAnimate,
    UniAnimateConfig,
)
from unianimate.training.config import TrainConfig

_MAMBAS = {"mamba": MambaSpec, "mamba2": Mamba2Spec}


def start_model(config: TrainConfig) -> UniAnimate:
    """Build or read the model that a run starts from, in float32 on the CPU.

    With ``config.temporal`` other than the model's, every temporal mixer is new and all other
    weights are the model's; new mixers change nothing at first.

    Raises:
        FileNotFoundError: there is no such preset or model.
        ValueError: its files are damaged.
    """
    torch.manual_seed(config.seed)
    preset = config.model in PRESETS and not config.pretrained
    if preset and not (Path(config.model) / "config.json").is_file():
        return UniAnimate(_with_mixers(PRESETS[config.model], config.temporal))
    model = UniAnimate.from_pretrained(config.model, device="cpu", dtype=torch.float32)
    wanted = _with_mixers(model.config, config.temporal)
    if wanted == model.config:
        return model
    swapped = UniAnimate(wanted)
    swapped.unet.load_without_mixers(model.unet.state_dict())
    swapped.vae, swapped.image_encoder = model.vae, model.image_encoder
    swapped.text_embeds = model.text_embeds
    return swapped


def _with_mixers(config: UniAnimateConfig, kind: str | None) -> UniAnimateConfig:
    mixers = {spec.kind for spec in config.unet.mixers if spec is not None}
    if kind is None or mixers == {kind}:
        return config
    # its heads are as wide as those over space, which fit the channels
    mixer = (
        TemporalTransformerSpec(head_dim=config.unet.head_dim)
        if kind == "transformer"
        else _MAMBAS[kind]()
    )
    unet = dataclasses.replace(config.unet, temporal=mixer)
    return dataclasses.replace(config, unet=unet)
