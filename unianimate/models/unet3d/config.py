"""The configuration of a UNet3D, and how the official one is read."""

import difflib
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TemporalTransformerSpec:
    """A `TemporalTransformer`: as many heads as fill the channels.

    Attributes:
        head_dim: width of a head.
        init_heads: heads of the very first mixer, whose inner width is free; None as the others.
    """

    kind: Literal["transformer"] = "transformer"
    head_dim: int = 64
    init_heads: int | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class MambaSpec:
    """A `TemporalMamba`; the fields are its arguments."""

    kind: Literal["mamba"] = "mamba"
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    share_dynamics: bool = False
    decay: Literal["free", "geometric"] = "free"


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Mamba2Spec:
    """A `TemporalMamba2`; the fields are its arguments."""

    kind: Literal["mamba2"] = "mamba2"
    d_state: int = 64
    head_dim: int = 64
    d_conv: int = 4
    expand: int = 2


TemporalSpec = TemporalTransformerSpec | MambaSpec | Mamba2Spec


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class LevelSpec:
    """One resolution of the UNet.

    Attributes:
        channels: width, a multiple of 32.
        depth: ResnetBlocks on the way down; there is one more on the way up.
        spatial: follow every ResnetBlock by a `SpatialTransformer`.
        temporal: and by the level's temporal mixer.
    """

    channels: int
    depth: int = 2
    spatial: bool = True
    temporal: bool = True


def _official_levels() -> tuple[LevelSpec, ...]:
    return (
        LevelSpec(channels=320),
        LevelSpec(channels=640),
        LevelSpec(channels=1280),
        LevelSpec(channels=1280, spatial=False, temporal=False),
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class UNet3DConfig:
    """What a `UNet3D` is built from; the defaults are the official model.

    Attributes:
        dim: channels behind the first convolution, and width of the timestep's sinusoid.
        levels: finest first; each halves height and width.
        temporal: the temporal mixer, one for all levels or one a level; None is no mixer. The
            middle belongs to the coarsest level, the mixer before the first level to the finest.
        in_channels: channels of the noisy latents.
        out_channels: channels of the prediction.
        condition_channels: channels that poses and first frame are encoded to.
        context_dim: width of text and image tokens.
        num_tokens: image tokens that the network reads; as many zeros where there is no image.
        image_tokens: "projected" makes them of one image feature, "patches" takes them as given.
        head_dim: width of a head of spatial attention.
        dropout: in the ResnetBlocks.
        adapter_dropout: in the temporal adapters of the condition encoders.
        reference_in_every_frame: add the reference to the conditions of all frames too, and not
            only as a frame of its own. No further weights.
    """

    dim: int = 320
    levels: tuple[LevelSpec, ...] = field(default_factory=_official_levels)
    temporal: TemporalSpec | tuple[TemporalSpec | None, ...] | None = field(
        default_factory=lambda: TemporalTransformerSpec(init_heads=8)
    )
    in_channels: int = 4
    out_channels: int = 4
    condition_channels: int = 8
    context_dim: int = 1024
    num_tokens: int = 4
    image_tokens: Literal["projected", "patches"] = "projected"
    head_dim: int = 64
    dropout: float = 0.1
    adapter_dropout: float = 0.05
    reference_in_every_frame: bool = False

    @model_validator(mode="after")
    def _sizes_fit(self) -> "UNet3DConfig":
        if not self.levels:
            raise ValueError("UNet3DConfig: levels must name at least one level")
        if isinstance(self.temporal, tuple) and len(self.temporal) != len(self.levels):
            raise ValueError(
                f"UNet3DConfig: temporal must be one spec or one a level "
                f"({len(self.levels)}), got {len(self.temporal)}"
            )
        for name, channels in (
            ("dim", self.dim),
            *((f"levels[{i}].channels", level.channels) for i, level in enumerate(self.levels)),
        ):
            if channels < 1 or channels % 32:
                raise ValueError(f"UNet3DConfig: {name} must be a multiple of 32, got {channels}")
        return self

    @property
    def mixers(self) -> tuple[TemporalSpec | None, ...]:
        """The temporal mixer of each level, finest first."""
        if isinstance(self.temporal, tuple):
            return self.temporal
        return (self.temporal,) * len(self.levels)

    @property
    def size_multiple(self) -> int:
        """What height and width in pixels are multiples of: 64 for the official model."""
        return 8 * 2 ** (len(self.levels) - 1)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as it is written to JSON."""
        data: dict[str, Any] = TypeAdapter(UNet3DConfig).dump_python(self, mode="json")
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "UNet3DConfig":
        """Read what `to_dict` gave.

        Raises:
            pydantic.ValidationError: a key is unknown or a value does not fit.
        """
        return TypeAdapter(cls).validate_python(dict(data))

    @classmethod
    def from_official(cls, block: Mapping[str, Any]) -> "UNet3DConfig":
        """Read the UNet block of an official YAML.

        Keys that are absent take the value of the official base config.

        Raises:
            ValueError: a key is unknown (the message names the nearest one), or asks for something
                that the released network does not do.
        """
        _check_official_keys(block)
        given = {**_OFFICIAL, **block}
        dim = given["dim"]
        attention = [2.0**-level in given["attn_scales"] for level in range(len(given["dim_mult"]))]
        levels = tuple(
            LevelSpec(
                channels=dim * multiple, depth=given["num_res_blocks"], spatial=here, temporal=here
            )
            for multiple, here in zip(given["dim_mult"], attention)
        )
        return cls(
            dim=dim,
            levels=levels,
            temporal=TemporalTransformerSpec(
                head_dim=given["head_dim"], init_heads=given["num_heads"]
            ),
            in_channels=given["in_dim"],
            out_channels=given["out_dim"],
            condition_channels=given["concat_dim"],
            context_dim=given["context_dim"],
            num_tokens=given["num_tokens"],
            head_dim=given["head_dim"],
            dropout=given["dropout"],
        )


_OFFICIAL: dict[str, Any] = {
    "attn_scales": (1, 1 / 2, 1 / 4),
    "in_dim": 4,
    "out_dim": 4,
    "dim": 320,
    "dim_mult": (1, 2, 4, 4),
    "num_heads": 8,
    "head_dim": 64,
    "num_res_blocks": 2,
    "context_dim": 1024,
    "concat_dim": 8,
    "num_tokens": 4,
    "dropout": 0.1,
}
# what the official network reads and does not use, or what only its training uses
_WITHOUT_EFFECT = (
    "type", "config", "resolution", "y_dim", "hist_dim", "use_checkpoint", "use_image_dataset",
    "training", "inpainting", "use_scale_shift_norm", "misc_dropout", "p_all_zero", "p_all_keep",
    "zero_y", "black_image_feature",
)  # fmt: skip
# the one value under which the released network was built
_ONLY = {
    "temporal_attention": True,
    "temporal_attn_times": 1,
    "adapter_transformer_layers": 1,
    "use_fps_condition": False,
    "use_sim_mask": False,
}


def _check_official_keys(block: Mapping[str, Any]) -> None:
    known = [*_OFFICIAL, *_WITHOUT_EFFECT, *_ONLY]
    for key, value in block.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ValueError(f"UNet3DConfig.from_official: unknown key {key!r}; {hint}")
        if key in _ONLY and value != _ONLY[key]:
            raise ValueError(
                f"UNet3DConfig.from_official: {key} must be {_ONLY[key]}, as in the released "
                f"network, got {value!r}"
            )
