"""Convolutions over space and time: ResnetBlock, TemporalConvBlock, Downsample, Upsample."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, silu

from unianimate.blocks._layout import channels_last, double, from_frames, per_frame, to_frames
from unianimate.blocks._plain import plain_parameters
from unianimate.blocks.norm import GroupNorm
from unianimate_kernels import resnet_block, spatial_conv, temporal_conv, temporal_conv_block


def zero_init(module: nn.Module) -> None:
    """Set every parameter of a module to zero, so that its branch starts as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


class TemporalConv(nn.Conv3d):
    """A convolution over three frames at every location, by the op `temporal_conv`.

    Args:
        dim: channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, F, H, W) for (B, C, F, H, W)."""
        return temporal_conv(x, self.weight, self.bias)


class SpatialConv(nn.Conv2d):
    """A convolution of 3x3 pixels in every picture, by the op `spatial_conv`.

    Args:
        dim: channels of the input.
        out_dim: channels of the output.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(dim, out_dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_dim, H, W) for (N, dim, H, W)."""
        # the native form has no gradient; where ops are bound to it, training goes on all the same
        backend = "reference" if torch.is_grad_enabled() else None
        return spatial_conv(x, self.weight, self.bias, backend=backend)


class TemporalConvBlock(nn.Module):
    """Four stages of GroupNorm over the clip, SiLU and a convolution over three frames.

    ``x + stage_4(stage_3(stage_2(stage_1(x))))``; the last convolution starts at zero. Statistics
    are taken over all frames of an item, so the result depends on how many there are (ModelScope,
    arXiv 2308.06571, section 3.1).

    Args:
        dim: channels, a multiple of 32.
        dropout: probability before the convolutions of all stages but the first.
    """

    def __init__(self, dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim, self.dropout = dim, dropout
        self.norms = nn.ModuleList(GroupNorm(dim) for _ in range(4))
        self.convs = nn.ModuleList(TemporalConv(dim) for _ in range(4))
        zero_init(self.convs[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, F, H, W) for (B, C, F, H, W)."""
        x = h = channels_last(x)
        given = self._given()
        if given is not None:
            return temporal_conv_block(x, **given)
        for stage, (norm, conv) in enumerate(zip(self.norms, self.convs)):
            h = norm(h)
            if stage > 0:
                h = dropout(h, self.dropout, self.training)
            h = conv(h)
        return x + h

    def _given(self) -> dict[str, Any] | None:
        """Return what the op of the whole is given beside its input; None where it may not run."""
        drops = self.training and self.dropout > 0
        if drops or torch.is_grad_enabled():
            return None
        norms, convs = list(self.norms), list(self.convs)
        weights = plain_parameters((GroupNorm, TemporalConv), *norms, *convs)
        settings = {(norm.num_groups, norm.eps, norm.activation) for norm in norms}
        first = norms[0]
        if weights is None or len(weights) != 2 * (len(norms) + len(convs)) or len(settings) > 1:
            return None
        if not isinstance(first, GroupNorm) or first.activation != "silu":
            return None
        of_norms, of_convs = weights[: 2 * len(norms)], weights[2 * len(norms) :]
        return {
            "num_groups": first.num_groups,
            "norm_weights": of_norms[::2],
            "norm_biases": of_norms[1::2],
            "weights": of_convs[::2],
            "biases": of_convs[1::2],
            "eps": first.eps,
        }

    def extra_repr(self) -> str:
        """Tell the sizes."""
        return f"{self.dim}, dropout={self.dropout}"


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions on every frame with a shortcut, then four over time.

    With N = GroupNorm of each frame and SiLU::

        h = conv2(dropout(N(conv1(N(x)) + emb_proj(silu(emb)))))
        y = temporal_conv(skip(x) + h)

    `conv2` starts at zero (Ho et al., arXiv 2006.11239).

    Args:
        dim: channels of the input, a multiple of 32.
        out_dim: channels of the output, a multiple of 32; None is `dim`.
        emb_dim: width of the timestep embedding; None if the block gets none.
        temporal_conv: add a `TemporalConvBlock`.
        dropout: probability before `conv2` and inside the temporal part.
    """

    # what its layers are, no more and no less, where the convolutions run in one op
    _kinds = (GroupNorm, SpatialConv, nn.Linear, nn.Conv2d)

    def __init__(
        self,
        dim: int,
        *,
        out_dim: int | None = None,
        emb_dim: int | None = None,
        temporal_conv: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width = dim if out_dim is None else out_dim
        self.dim, self.out_dim, self.dropout = dim, width, dropout
        self.norm1 = GroupNorm(dim)
        self.conv1 = SpatialConv(dim, width)
        self.emb_proj = None if emb_dim is None else nn.Linear(emb_dim, width)
        self.norm2 = GroupNorm(width)
        self.conv2 = SpatialConv(width, width)
        self.skip = None if width == dim else nn.Conv2d(dim, width, 1)
        self.temporal_conv = TemporalConvBlock(width, dropout=dropout) if temporal_conv else None
        zero_init(self.conv2)

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """Transform a video.

        Args:
            x: (B, dim, F, H, W).
            emb: (B, emb_dim) timestep embedding, the same for all frames of an item.

        Returns:
            (B, out_dim, F, H, W).

        Raises:
            ValueError: `emb` is missing, or given to a block that was built without `emb_dim`.
        """
        if (emb is None) != (self.emb_proj is None):
            need = "was built without emb_dim and takes no" if self.emb_proj is None else "needs an"
            raise ValueError(f"ResnetBlock: it {need} emb")
        x = channels_last(x)
        y = from_frames(self._convolve(to_frames(x), emb), x.shape[0])
        return y if self.temporal_conv is None else self.temporal_conv(y)

    def _convolve(self, x: Tensor, emb: Tensor | None) -> Tensor:
        given = self._given()
        if given is not None:
            return resnet_block(x, emb, **given)
        h, shift = self.conv1(self.norm1(x)), None
        if emb is not None and self.emb_proj is not None:
            shift = per_frame(self.emb_proj(silu(emb)), x.shape[0] // emb.shape[0]).to(h.dtype)
        h = self.conv2(dropout(self.norm2(h, shift), self.dropout, self.training))
        return (x if self.skip is None else self.skip(x)) + h

    def _given(self) -> dict[str, Any] | None:
        """Return what an op of the convolutions is given; None where it may not run."""
        drops = self.training and self.dropout > 0
        if drops or torch.is_grad_enabled():
            return None
        weights: dict[str, list[Tensor]] = {}
        for name in ("norm1", "conv1", "emb_proj", "norm2", "conv2", "skip"):
            layer = self._modules.get(name)  # None: a block without it
            own = [] if layer is None else plain_parameters(self._kinds, layer)
            if own is None or len(own) not in (0, 2):
                return None
            weights[name] = own
        norm1, norm2 = self.norm1, self.norm2
        if norm1.activation != "silu" or norm2.activation != "silu":
            return None
        if (norm1.num_groups, norm1.eps) != (norm2.num_groups, norm2.eps):
            return None
        return {"num_groups": norm1.num_groups, **weights, "eps": norm1.eps}

    def extra_repr(self) -> str:
        """Tell the sizes."""
        return f"{self.dim}, out_dim={self.out_dim}, dropout={self.dropout}"


class Downsample(nn.Module):
    """Halve height and width by a 3x3 convolution of stride 2; odd sizes are rounded up.

    Args:
        dim: channels of the input.
        out_dim: channels of the output; None is `dim`.
    """

    def __init__(self, dim: int, *, out_dim: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim if out_dim is None else out_dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_dim, F, H/2, W/2) for (B, dim, F, H, W)."""
        return from_frames(self.conv(to_frames(channels_last(x))), x.shape[0])


class Upsample(nn.Module):
    """Double height and width by repeating pixels, then a 3x3 convolution.

    Args:
        dim: channels of the input.
        out_dim: channels of the output; None is `dim`.
    """

    def __init__(self, dim: int, *, out_dim: int | None = None) -> None:
        super().__init__()
        self.conv = SpatialConv(dim, dim if out_dim is None else out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_dim, F, 2H, 2W) for (B, dim, F, H, W)."""
        return from_frames(self.conv(double(to_frames(channels_last(x)))), x.shape[0])
