"""The same budget spent the other way: a separate reference network and a pose branch.

Two networks instead of one (as Animate Anyone, arXiv 2311.17117): a second copy of the spatial
part looks at the reference alone, and every self-attention of the video network reads what that
copy's attention saw at the same place. Poses have a branch of their own: the reference's pose, the
reference as a frame and the reference in every frame are gone. It is trained as `small` is, on the
same puppets for as many steps, and has as many parameters. Run it:

    unianimate train --recipe small-vae -o small-vae
    python examples/separate_reference.py small-vae/model -o separate
    python -m benchmarks.quality separate small/model separate/model -o findings
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unianimate.blocks import ResnetBlock, SpatialTransformer
from unianimate.models import UNet3D, UNet3DConfig, UniAnimate, UniAnimateConfig
from unianimate.models.unet3d import Conditions
from unianimate.training.config import TrainConfig, load_config
from unianimate.training.recipes import read_recipe
from unianimate.training.run import run_training

# with these both networks together have the parameters of the one network of `small`
DIM, CHANNELS = 96, (64, 64, 64)


class ReferenceNetwork(UNet3D):
    """The spatial part of a `UNet3D`: one frame needs nothing along time, and no conditions."""

    def __init__(self, config: UNet3DConfig) -> None:
        super().__init__(replace(config, temporal=None))
        del self.pose_encoder, self.first_frame_encoder, self.reference_encoder
        self.norm_out = self.conv_out = nn.Identity()
        for block in self.modules():
            if isinstance(block, ResnetBlock):
                block.temporal_conv = None

    def features(self, reference: Tensor, context: Tensor) -> list[Tensor]:
        """Return the tokens (B, h w, C) that every self-attention sees in a reference."""
        seen: list[Tensor] = []
        emb = self.time_embedding(torch.zeros(len(reference), device=reference.device).long())
        with told(self, lambda attention, tokens: seen.append(tokens[0])):
            self.transform(reference, emb, context)
        return seen


class TwoNetworks(UNet3D):
    """A `UNet3D` of the noisy frames alone, which reads the features of a reference network.

    Gradient checkpointing would call its attention once more, without the reference.
    """

    def __init__(self, config: UNet3DConfig) -> None:
        super().__init__(config)
        self.reference_network = ReferenceNetwork(config)

    def encode_conditions(self, text_embeds: Tensor, **given: Any) -> Conditions:
        """Encode as a `UNet3D` does, without the pose of the reference."""
        return super().encode_conditions(text_embeds, **{**given, "reference_pose": None})

    def forward(self, sample: Tensor, timestep: Tensor, conditions: Any) -> Tensor:
        """Predict (B, C, F, h, w) for noisy latents (B, C, F, h, w)."""
        tensors = conditions.tensors if isinstance(conditions, Conditions) else conditions
        frames, reference, context = tensors.expanded(len(sample))
        features = iter(self.reference_network.features(reference, context))

        def read(attention: nn.Module, tokens: tuple[Tensor]) -> tuple[Tensor, Tensor]:
            own, others = tokens[0], next(features)  # (B F, h w, C) and (B, h w, C)
            others = others.repeat_interleave(len(own) // len(others), dim=0)
            return own, torch.cat([own, others], dim=1)

        x = torch.cat([sample.to(frames.dtype), frames], dim=1)
        with told(self, read):
            y = self.transform(x, self.time_embedding(timestep), context)
        return y.to(sample.dtype)


class SeparateReference(UniAnimate):
    """A `UniAnimate` of two networks, for the training and the pipeline of one."""

    def __init__(self, config: UniAnimateConfig) -> None:
        super().__init__(config)
        self.unet = TwoNetworks(config.unet)


@contextmanager
def told(net: UNet3D, hook: Callable[[nn.Module, Any], Any]) -> Iterator[None]:
    """Call a hook with the input of every self-attention over space; it may change that."""
    blocks = [block for part in (net.down, net.middle, net.up) for block in part.modules()]
    spatial = [block for block in blocks if isinstance(block, SpatialTransformer)]
    hooks = [block.attn1.register_forward_pre_hook(hook) for block in spatial]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def with_two_networks(
    model: UniAnimate, dim: int = DIM, channels: Sequence[int] = CHANNELS
) -> SeparateReference:
    """Return a new model of two networks around the autoencoder of another model."""
    unet = model.config.unet
    levels = tuple(replace(level, channels=c) for level, c in zip(unet.levels, channels))
    unet = replace(unet, dim=dim, levels=levels, reference_in_every_frame=False)
    other = SeparateReference(replace(model.config, unet=unet))
    other.vae = model.vae
    return other


def train(config: TrainConfig, folder: str | Path, **sizes: Any) -> Path:
    """Train two networks around the autoencoder of `config.model`; return the model's folder."""
    start = UniAnimate.from_pretrained(config.model, device="cpu", dtype=torch.float32)
    torch.manual_seed(config.seed)
    model = with_two_networks(start, **sizes)
    return run_training(config, folder, model=model, report=print)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the small model with two networks.")
    parser.add_argument("autoencoder", help="model folder of the recipe small-vae")
    parser.add_argument("-o", "--output", required=True, help="folder of the run")
    parser.add_argument("--set", action="append", default=[], help="a setting, as name=value")
    options = parser.parse_args()
    settings = dict(setting.split("=", 1) for setting in options.set)
    settings["model"] = options.autoencoder
    config = load_config(read_recipe("small"), settings=settings)
    print(train(config, options.output))
