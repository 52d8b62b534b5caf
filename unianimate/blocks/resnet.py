"""Convolutions over space and time: ResnetBlock, TemporalConvBlock, Downsample, Upsample."""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, silu

from unianimate.blocks._layout import channels_last, double, from_frames, per_frame, to_frames
from unianimate.blocks._plain import are_plain
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
        first = self.norms[0]
        if isinstance(first, GroupNorm) and self._runs_in_one_op():
            return temporal_conv_block(
                x,
                first.num_groups,
                [norm.get_parameter("weight") for norm in self.norms],
                [norm.get_parameter("bias") for norm in self.norms],
                [conv.get_parameter("weight") for conv in self.convs],
                [conv.get_parameter("bias") for conv in self.convs],
                eps=first.eps,
            )
        for stage, (norm, conv) in enumerate(zip(self.norms, self.convs)):
            h = norm(h)
            if stage > 0:
                h = dropout(h, self.dropout, self.training)
            h = conv(h)
        return x + h

    def _runs_in_one_op(self) -> bool:
        drops = self.training and self.dropout > 0
        plain = are_plain((GroupNorm, TemporalConv), *self.norms, *self.convs)
        settings = {(norm.num_groups, norm.eps, norm.activation) for norm in self.norms}
        alike = len(settings) == 1 and self.norms[0].activation == "silu"
        return plain and alike and not drops and not torch.is_grad_enabled()

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
        frames, shift = to_frames(x), None
        if emb is not None and self.emb_proj is not None:
            shift = per_frame(self.emb_proj(silu(emb)), x.shape[2])
        y = from_frames(self._convolve(frames, shift), x.shape[0])
        return y if self.temporal_conv is None else self.temporal_conv(y)

    def _convolve(self, x: Tensor, shift: Tensor | None) -> Tensor:
        if self._runs_in_one_op():
            return resnet_block(
                x,
                None if shift is None else shift.to(x.dtype),
                self.norm1.num_groups,
                list(self.norm1.parameters()),
                list(self.conv1.parameters()),
                list(self.norm2.parameters()),
                list(self.conv2.parameters()),
                [] if self.skip is None else list(self.skip.parameters()),
                eps=self.norm1.eps,
            )
        h = self.conv1(self.norm1(x))
        h = self.norm2(h, None if shift is None else shift.to(h.dtype))
        h = self.conv2(dropout(h, self.dropout, self.training))
        return (x if self.skip is None else self.skip(x)) + h

    def _runs_in_one_op(self) -> bool:
        norms = (self.norm1, self.norm2)
        convs = [c for c in (self.conv1, self.conv2, self.skip) if c is not None]
        plain = are_plain((GroupNorm, SpatialConv, nn.Conv2d), *norms, *convs)
        settings = {(norm.num_groups, norm.eps, norm.activation) for norm in norms}
        alike = len(settings) == 1 and self.norm1.activation == "silu"
        drops = self.training and self.dropout > 0
        return plain and alike and not drops and not torch.is_grad_enabled()

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
