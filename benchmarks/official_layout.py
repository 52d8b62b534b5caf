"""The same network in the official layout: what `UNet3D` is measured against.

Plain torch on contiguous (B*F, C, H, W), rearranged for every temporal part as the official
code does (B F C H W -> (B H W) F C and back), the context repeated for every frame, and the
conditions encoded at every step. It holds the weights of a `UNet3D` and gives its numbers.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from unianimate.blocks import (
    Downsample,
    ResnetBlock,
    SpatialTransformer,
    TemporalAdapter,
    TemporalTransformer,
    Upsample,
)
from unianimate.models import UNet3D


def group_norm(norm: nn.GroupNorm, x: Tensor, *, silu: bool) -> Tensor:
    y = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return F.silu(y) if silu else y


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)


def attention(module: nn.Module, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Attend on (B heads) N d, as xformers is called."""
    source = x if context is None else context
    heads = module.num_heads
    q, k, v = (
        rearrange(t, "b n (h d) -> (b h) n d", h=heads)
        for t in (module.to_q(x), module.to_k(source), module.to_v(source))
    )
    # one head axis of size 1: the fused kernels take four axes
    y = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
    return module.to_out(rearrange(y, "(b h) n d -> b n (h d)", h=heads))


def transformer_block(block: nn.Module, x: Tensor, context: Tensor | None) -> Tensor:
    x = x + attention(block.attn1, block.norm1(x))
    x = x + attention(block.attn2, block.norm2(x), context)
    value, gate = block.ff.proj(block.norm3(x)).chunk(2, dim=-1)
    return x + block.ff.out(value * F.gelu(gate))


def spatial(block: SpatialTransformer, x: Tensor, context: Tensor) -> Tensor:
    h = rearrange(group_norm(block.norm, x, silu=False), "b c h w -> b (h w) c").contiguous()
    h = block.proj_out(transformer_block(block, block.proj_in(h), context))
    return x + rearrange(h, "b (h w) c -> b c h w", h=x.shape[2]).contiguous()


def temporal(block: TemporalTransformer, x: Tensor, frames: int) -> Tensor:
    height, width = x.shape[2:]
    video = rearrange(x, "(b f) c h w -> b c f h w", f=frames).contiguous()
    h = group_norm(block.norm, video, silu=False)
    h = rearrange(h, "b c f h w -> (b h w) c f").contiguous()
    h = F.conv1d(h, block.proj_in.weight[..., None], block.proj_in.bias)
    h = transformer_block(block, rearrange(h, "n c f -> n f c").contiguous(), None)
    h = rearrange(h, "n f c -> n c f").contiguous()
    h = F.conv1d(h, block.proj_out.weight[..., None], block.proj_out.bias)
    h = rearrange(h, "(b h w) c f -> b c f h w", h=height, w=width).contiguous()
    return rearrange(video + h, "b c f h w -> (b f) c h w")


def resnet(block: ResnetBlock, x: Tensor, emb: Tensor, frames: int) -> Tensor:
    h = convolve(block.conv1, group_norm(block.norm1, x, silu=True))
    h = h + block.emb_proj(F.silu(emb))[:, :, None, None]
    h = convolve(block.conv2, group_norm(block.norm2, h, silu=True))
    h = (x if block.skip is None else block.skip(x)) + h
    video = h = rearrange(h, "(b f) c h w -> b c f h w", f=frames)
    for norm, conv in zip(block.temporal_conv.norms, block.temporal_conv.convs):
        h = group_norm(norm, h, silu=True)
        h = F.conv3d(h, conv.weight, conv.bias, padding=conv.padding)
    return rearrange(video + h, "b c f h w -> (b f) c h w")


def adapter(block: TemporalAdapter, x: Tensor, frames: int) -> Tensor:
    h = rearrange(x, "(b f) c h w -> (b h w) f c", f=frames)
    qkv = block.to_qkv(block.norm(h)).chunk(3, dim=-1)
    q, k, v = (rearrange(t, "b n (h d) -> b h n d", h=2) for t in qkv)
    y = F.scaled_dot_product_attention(q, k, v)
    h = h + block.to_out(rearrange(y, "b h n d -> b n (h d)"))
    h = h + block.ff(h)
    return rearrange(h, "(b h w) f c -> (b f) c h w", h=x.shape[2], w=x.shape[3])


class OfficialTemporalTransformer(TemporalTransformer):
    """A `TemporalTransformer` run as the official code runs it."""

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[2]
        pictures = temporal(self, rearrange(x, "b c f h w -> (b f) c h w"), frames)
        return rearrange(pictures, "(b f) c h w -> b c f h w", f=frames)


class OfficialLayout(nn.Module):
    """A network of temporal transformers, run as the official code runs it.

    What is None among the conditions is absent, as in `UNet3D.encode_conditions`.
    """

    def __init__(self, net: UNet3D) -> None:
        super().__init__()
        self.net = net

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        text_embeds: Tensor,
        image_embeds: Tensor | None = None,
        pose: Tensor | None = None,
        reference_pose: Tensor | None = None,
        reference_latents: Tensor | None = None,
    ) -> Tensor:
        net = self.net
        batch, _, given = sample.shape[:3]
        frames = given + 1
        context = torch.cat([text_embeds.expand(batch, -1, -1), self._image(image_embeds)], dim=1)
        context = context.repeat_interleave(frames, dim=0)
        emb = net.time_embedding(timestep).repeat_interleave(frames, dim=0)
        first = self._reference(reference_latents, reference_pose, sample)
        poses = self._poses(pose, first, given)
        x = torch.cat([first[:, :, None], torch.cat([sample, poses], dim=1)], dim=2)

        x = convolve(net.conv_in, rearrange(x, "b c f h w -> (b f) c h w").contiguous())
        x = temporal(net.init_temporal, x, frames)
        skips = [x]
        for level in net.down:
            for block in level.blocks:
                x = self._block(block, x, emb, context, frames)
                skips.append(x)
            if level.downsample is not None:
                x = self._conv(level.downsample, x)
                skips.append(x)
        x = resnet(net.middle.resnet_in, x, emb, frames)
        x = temporal(net.middle.temporal, spatial(net.middle.spatial, x, context), frames)
        x = resnet(net.middle.resnet_out, x, emb, frames)
        for level in net.up:
            for block in level.blocks:
                x = self._block(block, torch.cat([x, skips.pop()], dim=1), emb, context, frames)
            if level.upsample is not None:
                x = self._conv(level.upsample, F.interpolate(x, scale_factor=2.0, mode="nearest"))
        y = convolve(net.conv_out, group_norm(net.norm_out, x, silu=True))
        return rearrange(y, "(b f) c h w -> b c f h w", f=frames)[:, :, 1:]

    def _image(self, image_embeds: Tensor | None) -> Tensor:
        net, config = self.net, self.net.config
        if image_embeds is None:
            return net.conv_in.weight.new_zeros(1, config.num_tokens, config.context_dim)
        if net.image_projection is None:
            return image_embeds
        tokens = net.image_projection(image_embeds.squeeze(1))
        return tokens.unflatten(1, (config.num_tokens, config.context_dim))

    def _reference(self, latents: Tensor | None, pose: Tensor | None, sample: Tensor) -> Tensor:
        """Return the frame before the others, (B, channels, h, w)."""
        encoder = self.net.reference_encoder
        if latents is None:
            return sample.new_zeros(sample.shape[0], encoder.dim, *sample.shape[3:])
        first = adapter(encoder.latent_adapter, encoder.latent(latents), 1)
        return (
            first if pose is None else first + adapter(encoder.pose_adapter, encoder.pose(pose), 1)
        )

    def _poses(self, pose: Tensor | None, first: Tensor, frames: int) -> Tensor:
        """Return what goes beside the noisy frames, (B, condition channels, F, h, w)."""
        net, channels = self.net, self.net.config.condition_channels
        if pose is None:
            poses = first.new_zeros(first.shape[0], channels, frames, *first.shape[2:])
        else:
            poses = net.pose_encoder.spatial(rearrange(pose, "b c f h w -> (b f) c h w"))
            poses = adapter(net.pose_encoder.temporal, poses, frames)
            poses = rearrange(poses, "(b f) c h w -> b c f h w", f=frames)
        if net.config.reference_in_every_frame:
            poses = poses + first[:, -channels:, None]
        return poses

    @staticmethod
    def _block(block: nn.Module, x: Tensor, emb: Tensor, context: Tensor, frames: int) -> Tensor:
        x = resnet(block.resnet, x, emb, frames)
        if block.spatial is not None:
            x = spatial(block.spatial, x, context)
        return x if block.temporal is None else temporal(block.temporal, x, frames)

    @staticmethod
    def _conv(module: Downsample | Upsample, x: Tensor) -> Tensor:
        return convolve(module.conv, x)
