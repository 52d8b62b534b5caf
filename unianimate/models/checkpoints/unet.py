"""Key map of the UNet: the released UniAnimate checkpoint and `UNet3D`, in both directions.

The map follows from the keys themselves (how many levels, how deep, which have attention, where
channels change), so that it serves a network of any size.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from unianimate.models.checkpoints._rename import (
    Rename,
    as_linear,
    count,
    rename,
    with_parameters,
)

# answers for a ResnetBlock (official prefix, our prefix) whether its channels change
HasSkip = Callable[[str, str], bool]


@dataclass(frozen=True)
class _Layout:
    """What the keys say about the network: finest level first."""

    attention: tuple[bool, ...]
    depth: int


def unet_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the official UNet's state dict (1544 tensors at full size) for `UNet3D`.

    The convolutions of kernel size 1 around a temporal transformer become linear layers. Tensors
    are views of those given.

    Raises:
        ValueError: If a key is missing or left over; the message names them.
    """

    def has_skip(official: str, _: str) -> bool:
        return _channels_change(
            state, f"{official}.in_layers.0.weight", f"{official}.in_layers.2.weight"
        )

    return rename("unet_from_official", state, _renames(_official_layout(state), has_skip))


def unet_to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of a `UNet3D` as the official code loads it.

    Raises:
        ValueError: If a key is missing or left over; the message names them. A network with other
            temporal mixers than the official one, or without them, has no official form.
    """

    def has_skip(_: str, ours: str) -> bool:
        return _channels_change(state, f"{ours}.norm1.weight", f"{ours}.conv1.weight")

    back = (
        Rename(r.target, r.source, None if r.change is None else _as_conv1d)
        for r in _renames(_our_layout(state), has_skip)
    )
    return rename("unet_to_official", state, back)


def _as_conv1d(weight: Tensor) -> Tensor:
    return weight.unsqueeze(-1)


def _channels_change(state: Mapping[str, Tensor], norm: str, conv: str) -> bool:
    """Tell by its first norm and convolution whether a ResnetBlock has a skip convolution."""
    if norm not in state or conv not in state:
        return False  # the missing key is reported
    return state[norm].shape[0] != state[conv].shape[0]


def _official_layout(state: Mapping[str, Tensor]) -> _Layout:
    attention, depth = [False], 0
    for i in range(1, count(state, "input_blocks.")):
        block = f"input_blocks.{i}."
        if any(key.startswith(f"{block}op.") for key in state):
            attention.append(False)
            continue
        depth += len(attention) == 1
        attention[-1] |= any(key.startswith(f"{block}1.") for key in state)
    return _Layout(tuple(attention), depth)


def _our_layout(state: Mapping[str, Tensor]) -> _Layout:
    levels = range(count(state, "down."))
    return _Layout(
        tuple(any(k.startswith(f"down.{i}.blocks.0.spatial.") for k in state) for i in levels),
        count(state, "down.0.blocks."),
    )


def _renames(layout: _Layout, has_skip: HasSkip) -> Iterator[Rename]:
    """Yield every tensor of the network, official name first."""
    yield from _conditions()
    yield from with_parameters([("input_blocks.0.0", "conv_in")])
    yield from _transformer("input_blocks.0.1", "init_temporal", temporal=True)

    levels, index = len(layout.attention), 1
    for level, attention in enumerate(layout.attention):
        for j in range(layout.depth):
            yield from _block(
                f"input_blocks.{index}", f"down.{level}.blocks.{j}", attention, has_skip
            )
            index += 1
        if level < levels - 1:
            ours = f"down.{level}.downsample.conv"
            yield from with_parameters([(f"input_blocks.{index}.op", ours)])
            index += 1

    yield from _resnet("middle_block.0", "middle.resnet_in", has_skip)
    yield from _transformer("middle_block.1", "middle.spatial")
    yield from _transformer("middle_block.2", "middle.temporal", temporal=True)
    yield from _resnet("middle_block.3", "middle.resnet_out", has_skip)

    index = 0
    for level, attention in enumerate(reversed(layout.attention)):
        for j in range(layout.depth + 1):
            yield from _block(
                f"output_blocks.{index}", f"up.{level}.blocks.{j}", attention, has_skip
            )
            index += 1
        if level < levels - 1:
            # the upsampling is the last part of the level's last block
            official = f"output_blocks.{index - 1}.{3 if attention else 1}.conv"
            yield from with_parameters([(official, f"up.{level}.upsample.conv")])

    yield from with_parameters([("out.0", "norm_out"), ("out.2", "conv_out")])


def _conditions() -> Iterator[Rename]:
    """Yield the timestep embedding and the condition encoders."""
    yield from with_parameters(
        [
            ("time_embed.0", "time_embedding.linear_1"),
            ("time_embed.2", "time_embedding.linear_2"),
            ("pre_image_condition.0", "image_projection.0"),
            ("pre_image_condition.2", "image_projection.2"),
        ]
    )
    picture, latent = (0, 3, 5), (0, 2, 4)
    for official, convs, ours, adapter_official, adapter in (
        ("local_image_embedding", picture, "first_frame_encoder.spatial",
         "local_image_embedding_after", "first_frame_encoder.temporal"),
        ("dwpose_embedding", picture, "pose_encoder.spatial",
         "dwpose_embedding_after", "pose_encoder.temporal"),
        ("randomref_pose2_embedding", picture, "reference_encoder.pose",
         "randomref_pose2_embedding_after", "reference_encoder.pose_adapter"),
        ("randomref_embedding2", latent, "reference_encoder.latent",
         "randomref_embedding_after2", "reference_encoder.latent_adapter"),
    ):  # fmt: skip
        yield from with_parameters([(f"{official}.{i}", f"{ours}.{i}") for i in convs])
        attention, feed_forward = f"{adapter_official}.layers.0.0", f"{adapter_official}.layers.0.1"
        yield from with_parameters(
            [
                (f"{attention}.norm", f"{adapter}.norm"),
                (f"{attention}.fn.to_out.0", f"{adapter}.to_out"),
                (f"{feed_forward}.net.0.0", f"{adapter}.ff.0"),
                (f"{feed_forward}.net.2", f"{adapter}.ff.2"),
            ]
        )
        yield Rename(f"{attention}.fn.to_qkv.weight", f"{adapter}.to_qkv.weight")


def _block(official: str, ours: str, attention: bool, has_skip: HasSkip) -> Iterator[Rename]:
    yield from _resnet(f"{official}.0", f"{ours}.resnet", has_skip)
    if attention:
        yield from _transformer(f"{official}.1", f"{ours}.spatial")
        yield from _transformer(f"{official}.2", f"{ours}.temporal", temporal=True)


def _resnet(official: str, ours: str, has_skip: HasSkip) -> Iterator[Rename]:
    pairs = [
        ("in_layers.0", "norm1"),
        ("in_layers.2", "conv1"),
        ("emb_layers.1", "emb_proj"),
        ("out_layers.0", "norm2"),
        ("out_layers.3", "conv2"),
    ]
    if has_skip(official, ours):
        pairs.append(("skip_connection", "skip"))
    for i in range(4):
        # dropout stands before the convolution of all stages but the first
        stage = f"temopral_conv.conv{i + 1}"
        pairs.append((f"{stage}.0", f"temporal_conv.norms.{i}"))
        pairs.append((f"{stage}.{2 if i == 0 else 3}", f"temporal_conv.convs.{i}"))
    yield from with_parameters([(f"{official}.{a}", f"{ours}.{b}") for a, b in pairs])


def _transformer(official: str, ours: str, *, temporal: bool = False) -> Iterator[Rename]:
    for name in ("proj_in", "proj_out"):
        change = as_linear if temporal else None
        yield Rename(f"{official}.{name}.weight", f"{ours}.{name}.weight", change)
        yield Rename(f"{official}.{name}.bias", f"{ours}.{name}.bias")
    inner = f"{official}.transformer_blocks.0"
    pairs = [(f"{official}.norm", f"{ours}.norm")]
    pairs += [(f"{inner}.norm{i}", f"{ours}.norm{i}") for i in (1, 2, 3)]
    pairs += [
        (f"{inner}.ff.net.0.proj", f"{ours}.ff.proj"),
        (f"{inner}.ff.net.2", f"{ours}.ff.out"),
    ]
    for attention in ("attn1", "attn2"):
        pairs.append((f"{inner}.{attention}.to_out.0", f"{ours}.{attention}.to_out"))
        for projection in ("to_q", "to_k", "to_v"):
            name = f"{attention}.{projection}.weight"
            yield Rename(f"{inner}.{name}", f"{ours}.{name}")
    yield from with_parameters(pairs)
