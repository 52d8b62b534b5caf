"""The levels of a UNet3D: what a resolution is made of, on the way down and on the way up."""

from collections.abc import Iterable

from torch import Tensor, nn

from unianimate.blocks import (
    Downsample,
    ResnetBlock,
    SpatialTransformer,
    TemporalMamba,
    TemporalMamba2,
    TemporalTransformer,
    Upsample,
)
from unianimate.models.unet3d.config import (
    LevelSpec,
    Mamba2Spec,
    MambaSpec,
    TemporalSpec,
    TemporalTransformerSpec,
    UNet3DConfig,
)


def temporal_mixer(spec: TemporalSpec | None, dim: int, *, first: bool = False) -> nn.Module | None:
    """Build the temporal mixer that a spec describes; `first` is the one before all levels."""
    match spec:
        case None:
            return None
        case TemporalTransformerSpec():
            heads = spec.init_heads if first else None
            return TemporalTransformer(dim, num_heads=heads, head_dim=spec.head_dim)
        case MambaSpec():
            return TemporalMamba(
                dim,
                d_state=spec.d_state,
                d_conv=spec.d_conv,
                expand=spec.expand,
                share_dynamics=spec.share_dynamics,
                decay=spec.decay,
            )
        case Mamba2Spec():
            return TemporalMamba2(
                dim,
                d_state=spec.d_state,
                head_dim=spec.head_dim,
                d_conv=spec.d_conv,
                expand=spec.expand,
            )


class UNetBlock(nn.Module):
    """A ResnetBlock, then attention over space, then the temporal mixer, where there are such."""

    def __init__(
        self,
        dim: int,
        config: UNet3DConfig,
        level: LevelSpec,
        mixer: TemporalSpec | None,
    ) -> None:
        super().__init__()
        self.resnet = ResnetBlock(
            dim, out_dim=level.channels, emb_dim=4 * config.dim, dropout=config.dropout
        )
        self.spatial = (
            SpatialTransformer(
                level.channels, head_dim=config.head_dim, context_dim=config.context_dim
            )
            if level.spatial
            else None
        )
        self.temporal = temporal_mixer(mixer, level.channels) if level.temporal else None

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        """Transform a video (B, dim, F, H, W)."""
        x = self.resnet(x, emb)
        if self.spatial is not None:
            x = self.spatial(x, context)
        return x if self.temporal is None else self.temporal(x)


class DownLevel(nn.Module):
    """The blocks of one resolution on the way down, then the way to the next."""

    def __init__(self, blocks: Iterable[UNetBlock], downsample: Downsample | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


class Middle(nn.Module):
    """The coarsest place: a ResnetBlock, attention, the temporal mixer, a ResnetBlock."""

    def __init__(self, dim: int, config: UNet3DConfig) -> None:
        super().__init__()
        emb_dim = 4 * config.dim
        self.resnet_in = ResnetBlock(dim, emb_dim=emb_dim, dropout=config.dropout)
        self.spatial = SpatialTransformer(
            dim, head_dim=config.head_dim, context_dim=config.context_dim
        )
        self.temporal = temporal_mixer(config.mixers[-1], dim)
        self.resnet_out = ResnetBlock(dim, emb_dim=emb_dim, dropout=config.dropout)

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        """Transform a video (B, dim, F, H, W)."""
        x = self.spatial(self.resnet_in(x, emb), context)
        x = x if self.temporal is None else self.temporal(x)
        return self.resnet_out(x, emb)


class UpLevel(nn.Module):
    """The blocks of one resolution on the way up, then the way to the next."""

    def __init__(self, blocks: Iterable[UNetBlock], upsample: Upsample | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.upsample = upsample


def build_down(config: UNet3DConfig) -> tuple[nn.ModuleList, list[int]]:
    """Return the levels on the way down and the channels of every skip."""
    levels, dim, skips = nn.ModuleList(), config.dim, [config.dim]
    last = len(config.levels) - 1
    for i, (level, mixer) in enumerate(zip(config.levels, config.mixers)):
        blocks = []
        for _ in range(level.depth):
            blocks.append(UNetBlock(dim, config, level, mixer))
            dim = level.channels
            skips.append(dim)
        downsample = None if i == last else Downsample(dim)
        if downsample is not None:
            skips.append(dim)
        levels.append(DownLevel(blocks, downsample))
    return levels, skips


def build_up(config: UNet3DConfig, skips: list[int]) -> nn.ModuleList:
    """Return the levels on the way up, coarsest first."""
    levels, dim = nn.ModuleList(), config.levels[-1].channels
    pending = list(skips)
    for i in reversed(range(len(config.levels))):
        level = config.levels[i]
        blocks = []
        for _ in range(level.depth + 1):
            blocks.append(UNetBlock(dim + pending.pop(), config, level, config.mixers[i]))
            dim = level.channels
        levels.append(UpLevel(blocks, Upsample(dim) if i > 0 else None))
    return levels
