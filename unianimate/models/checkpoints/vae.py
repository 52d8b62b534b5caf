"""Key map of the VAE: latent-diffusion names to those of diffusers' `AutoencoderKL`."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from unianimate.models.checkpoints._rename import (
    Rename,
    as_linear,
    count,
    rename,
    with_parameters,
)


def vae_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename an ldm VAE's state dict (248 tensors at full size) for `AutoencoderKL`.

    The keys come without "first_stage_model.". The 1x1 convolutions of the attention become linear
    layers. Tensors are views of those given.

    Raises:
        ValueError: If a key is missing or left over; the message names them.
    """
    return rename("vae_from_official", state, _renames(state))


def _renames(state: Mapping[str, Tensor]) -> Iterator[Rename]:
    levels, depth = count(state, "encoder.down."), count(state, "encoder.down.0.block.")
    for half in ("encoder", "decoder"):
        yield from with_parameters(
            [
                (f"{half}.conv_in", f"{half}.conv_in"),
                (f"{half}.norm_out", f"{half}.conv_norm_out"),
                (f"{half}.conv_out", f"{half}.conv_out"),
            ]
        )
        yield from _middle(state, f"{half}.mid", f"{half}.mid_block")
    for i in range(levels):
        official, ours = f"encoder.down.{i}", f"encoder.down_blocks.{i}"
        for j in range(depth):
            yield from _resnet(state, f"{official}.block.{j}", f"{ours}.resnets.{j}")
        if i < levels - 1:
            pair = (f"{official}.downsample.conv", f"{ours}.downsamplers.0.conv")
            yield from with_parameters([pair])
        # the official decoder counts levels from the finest, diffusers in running order
        official, ours = f"decoder.up.{i}", f"decoder.up_blocks.{levels - 1 - i}"
        for j in range(depth + 1):
            yield from _resnet(state, f"{official}.block.{j}", f"{ours}.resnets.{j}")
        if i > 0:
            pair = (f"{official}.upsample.conv", f"{ours}.upsamplers.0.conv")
            yield from with_parameters([pair])
    yield from with_parameters([(name, name) for name in ("quant_conv", "post_quant_conv")])


def _resnet(state: Mapping[str, Tensor], official: str, ours: str) -> Iterator[Rename]:
    names = ("norm1", "conv1", "norm2", "conv2")
    yield from with_parameters([(f"{official}.{n}", f"{ours}.{n}") for n in names])
    norm, conv = f"{official}.norm1.weight", f"{official}.conv1.weight"
    if norm in state and conv in state and state[norm].shape[0] != state[conv].shape[0]:
        yield from with_parameters([(f"{official}.nin_shortcut", f"{ours}.conv_shortcut")])


def _middle(state: Mapping[str, Tensor], official: str, ours: str) -> Iterator[Rename]:
    yield from _resnet(state, f"{official}.block_1", f"{ours}.resnets.0")
    yield from _resnet(state, f"{official}.block_2", f"{ours}.resnets.1")
    yield from with_parameters([(f"{official}.attn_1.norm", f"{ours}.attentions.0.group_norm")])
    for a, b in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        official_name, name = f"{official}.attn_1.{a}", f"{ours}.attentions.0.{b}"
        yield Rename(f"{official_name}.weight", f"{name}.weight", as_linear)
        yield Rename(f"{official_name}.bias", f"{name}.bias")
