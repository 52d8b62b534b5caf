"""UNet3D: one network for reference, poses and noise."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unianimate.blocks import PoseEncoder, ReferenceEncoder, TimestepEmbedding
from unianimate.blocks._layout import (
    channels_last,
    concatenate_channels,
    concatenate_frames,
    from_frames,
    to_frames,
)
from unianimate.blocks.norm import GroupNorm
from unianimate.blocks.resnet import SpatialConv
from unianimate.models.unet3d.conditions import (
    Conditions,
    ConditionTensors,
    check_conditions,
    check_latent_size,
)
from unianimate.models.unet3d.config import UNet3DConfig
from unianimate.models.unet3d.levels import (
    DownLevel,
    Middle,
    UpLevel,
    build_down,
    build_up,
    temporal_mixer,
)

# a weight of a temporal mixer; the condition encoders' adapters are none
_MIXER = re.compile(r"(init_temporal|middle\.temporal|(down|up)\.\d+\.blocks\.\d+\.temporal)\.")


class UNet3D(nn.Module):
    """The unified video diffusion network of UniAnimate (arXiv 2406.01188).

    The reference picture and its pose become a frame before the noisy frames, the driving poses
    are channels beside them, and text and image tokens are the context of spatial attention::

        conditions = net.encode_conditions(text_embeds, num_frames=16, latent_size=(96, 64), ...)
        prediction = net(sample, timestep, conditions)      # at every step

    Args:
        config: sizes and temporal mixers; the default is the official network.

    Attributes:
        gradient_checkpointing: recompute every block in the backward pass instead of keeping its
            activations; set it before training.
    """

    def __init__(self, config: UNet3DConfig | None = None) -> None:
        super().__init__()
        self.config = config = UNet3DConfig() if config is None else config
        self.gradient_checkpointing = False
        in_channels = config.in_channels + config.condition_channels
        dropout = config.adapter_dropout

        self.time_embedding = TimestepEmbedding(config.dim, out_dim=4 * config.dim)
        self.image_projection = (
            nn.Sequential(
                nn.Linear(config.context_dim, config.context_dim),
                nn.SiLU(),
                nn.Linear(config.context_dim, config.context_dim * config.num_tokens),
            )
            if config.image_tokens == "projected"
            else None
        )
        self.pose_encoder = PoseEncoder(config.condition_channels, dropout=dropout)
        self.first_frame_encoder = PoseEncoder(config.condition_channels, dropout=dropout)
        self.reference_encoder = ReferenceEncoder(
            in_channels, latent_channels=config.in_channels, dropout=dropout
        )

        self.conv_in = SpatialConv(in_channels, config.dim)
        self.init_temporal = temporal_mixer(config.mixers[0], config.dim, first=True)
        self.down, skips = build_down(config)
        self.middle = Middle(config.levels[-1].channels, config)
        self.up = build_up(config, skips)
        self.norm_out = GroupNorm(config.levels[0].channels)
        self.conv_out = SpatialConv(config.levels[0].channels, config.out_channels)
        nn.init.zeros_(self.conv_out.weight)

    def encode_conditions(
        self,
        text_embeds: Tensor,
        *,
        num_frames: int,
        latent_size: tuple[int, int],
        image_embeds: Tensor | None = None,
        pose: Tensor | None = None,
        reference_pose: Tensor | None = None,
        reference_latents: Tensor | None = None,
        first_frame: Tensor | None = None,
    ) -> Conditions:
        """Encode what does not change from step to step.

        What is None is absent as in the official network: image tokens and the reference frame are
        zeros, and a reference pose without reference latents is not used.

        Args:
            text_embeds: (B or 1, L, context_dim).
            num_frames: F.
            latent_size: (h, w), multiples of 2 ** (levels - 1).
            image_embeds: (B, K, context_dim); K is 1 ("projected") or num_tokens ("patches").
            pose: (B, 3, F, 8h, 8w), RGB in [0, 1], like the next two pictures.
            reference_pose: (B, 3, 8h, 8w).
            reference_latents: (B, in_channels, h, w).
            first_frame: (B, 3, 8h, 8w), told to all frames.

        Returns:
            Conditions of a batch of B, in the network's dtype.

        Raises:
            ValueError: a shape does not fit.
        """
        config, size = self.config, tuple(latent_size)
        check_latent_size(size, len(config.levels))
        pixels = (8 * size[0], 8 * size[1])
        given: dict[str, tuple[Tensor | None, tuple[int | str, ...]]] = {
            "text_embeds": (text_embeds, ("L", config.context_dim)),
            "image_embeds": (image_embeds, (self._image_tokens_in, config.context_dim)),
            "pose": (pose, (3, num_frames, *pixels)),
            "reference_pose": (reference_pose, (3, *pixels)),
            "reference_latents": (reference_latents, (config.in_channels, *size)),
            "first_frame": (first_frame, (3, *pixels)),
        }
        batch = check_conditions(given)
        dtype = self.conv_in.weight.dtype

        image = text_embeds.new_zeros(batch, config.num_tokens, config.context_dim)
        if image_embeds is not None:
            image = self._image_tokens(image_embeds.to(dtype))
        reference = text_embeds.new_zeros(batch, self.conv_in.in_channels, 1, *size)
        if reference_latents is not None:
            pose_picture = None if reference_pose is None else reference_pose.to(dtype)
            reference = self.reference_encoder(reference_latents.to(dtype), pose_picture)
        constant = None
        if first_frame is not None:
            # attention over equal frames is attention over one
            constant = self.first_frame_encoder(first_frame.to(dtype).unsqueeze(2))
        return Conditions(
            text=text_embeds.to(dtype),
            image=image.to(dtype),
            reference=reference.to(dtype),
            first_frame=constant,
            pose=None if pose is None else self.pose_encoder.encode_frames(pose.to(dtype)),
            pose_encoder=self.pose_encoder,
            num_frames=num_frames,
            condition_channels=config.condition_channels,
            reference_in_every_frame=config.reference_in_every_frame,
        )

    @property
    def _image_tokens_in(self) -> int:
        return 1 if self.image_projection is not None else self.config.num_tokens

    def _image_tokens(self, image_embeds: Tensor) -> Tensor:
        """Return (B, num_tokens, context_dim)."""
        if self.image_projection is None:
            return image_embeds
        tokens = self.image_projection(image_embeds.squeeze(1))
        return tokens.unflatten(1, (self.config.num_tokens, self.config.context_dim))

    def forward(
        self, sample: Tensor, timestep: Tensor, conditions: Conditions | ConditionTensors
    ) -> Tensor:
        """Predict.

        Args:
            sample: (B, in_channels, F, h, w), noisy latents in any dtype.
            timestep: (B,) int64.
            conditions: for a batch of B, or of 1, which is repeated.

        Returns:
            (B, out_channels, F, h, w) in the sample's dtype.

        Raises:
            ValueError: a shape does not fit.
        """
        if isinstance(conditions, Conditions):
            conditions = conditions.tensors
        self._check(sample, timestep, conditions)
        frames, reference, context = conditions.expanded(sample.shape[0])
        emb = self.time_embedding(timestep)
        noisy = concatenate_channels(channels_last(sample).to(self.conv_in.weight.dtype), frames)
        y = self.transform(concatenate_frames(reference, noisy), emb, context)
        return y[:, :, 1:].to(sample.dtype)  # the reference was the first frame

    def transform(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        """Run all levels on a video whose conditions are in it.

        Args:
            x: (B, in_channels + condition_channels, F, h, w).
            emb: (B, 4 dim), of the timestep.
            context: (B, L, context_dim).

        Returns:
            (B, out_channels, F, h, w).
        """
        x = from_frames(self.conv_in(to_frames(x)), x.shape[0])
        if self.init_temporal is not None:
            x = self._run(self.init_temporal, x)
        skips = [x]
        for level in self.down:
            assert isinstance(level, DownLevel)
            for block in level.blocks:
                x = self._run(block, x, emb, context)
                skips.append(x)
            if level.downsample is not None:
                x = level.downsample(x)
                skips.append(x)
        x = self._run(self.middle, x, emb, context)
        for level in self.up:
            assert isinstance(level, UpLevel)
            for block in level.blocks:
                x = self._run(block, concatenate_channels(x, skips.pop()), emb, context)
            if level.upsample is not None:
                x = level.upsample(x)
        return from_frames(self.conv_out(self.norm_out(to_frames(x))), x.shape[0])

    def load_without_mixers(self, state: Mapping[str, Tensor], *, assign: bool = False) -> None:
        """Load all weights but those of the temporal mixers, which keep their own.

        So a network with Mamba mixers starts from one with attention: its fresh mixers change
        nothing.

        Args:
            state: the state dict of a `UNet3D` that differs in `config.temporal` alone.
            assign: take the tensors themselves, as `load_state_dict` does.

        Raises:
            ValueError: any other tensor is missing or left over; the message names them.
        """
        rest = {name: x for name, x in state.items() if not _MIXER.match(name)}
        missing, left_over = self.load_state_dict(rest, strict=False, assign=assign)
        missing = [name for name in missing if not _MIXER.match(name)]
        if missing or left_over:
            raise ValueError(
                f"UNet3D.load_without_mixers: missing {missing[:5]}, left over {left_over[:5]}"
            )

    def _run(self, module: nn.Module, *args: Tensor) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            result: Tensor = checkpoint(module, *args, use_reentrant=False)
            return result
        return module(*args)

    def _check(self, sample: Tensor, timestep: Tensor, conditions: ConditionTensors) -> None:
        frames = conditions.frames
        wanted = ("B", self.config.in_channels, *frames.shape[2:])
        if sample.dim() != 5 or tuple(sample.shape[1:]) != wanted[1:]:
            raise ValueError(
                f"UNet3D: sample must be ({', '.join(map(str, wanted))}) to fit the conditions, "
                f"got {tuple(sample.shape)}"
            )
        if timestep.shape != sample.shape[:1]:
            raise ValueError(
                f"UNet3D: timestep must have shape ({sample.shape[0]},), "
                f"got {tuple(timestep.shape)}"
            )

    def extra_repr(self) -> str:
        """Tell the levels and the mixers."""
        mixers = ", ".join("none" if m is None else m.kind for m in self.config.mixers)
        return f"channels={[level.channels for level in self.config.levels]}, temporal={mixers}"
