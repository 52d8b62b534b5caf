"""The models that have a name."""

from typing import Any

from unianimate.models.config import UniAnimateConfig
from unianimate.models.unet3d.config import (
    LevelSpec,
    Mamba2Spec,
    MambaSpec,
    TemporalTransformerSpec,
    UNet3DConfig,
)


def _autoencoder(channels: tuple[int, ...], latents: int, fold: int = 1) -> dict[str, Any]:
    """Return the configuration of an `AutoencoderKL` without attention in its middle.

    It sees pictures folded `fold` x `fold`.
    """
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": 3 * fold**2,
        "out_channels": 3 * fold**2,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "block_out_channels": list(channels),
        "layers_per_block": 1,
        "act_fn": "silu",
        "latent_channels": latents,
        "norm_num_groups": 8,
        "mid_block_add_attention": False,
        "scaling_factor": 1.0,
    }


def _vision(width: int, layers: int, size: int, patch: int, out: int) -> dict[str, Any]:
    """Return the configuration of a small `CLIPVisionModelWithProjection`."""
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "projection_dim": out,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "image_size": size,
        "patch_size": patch,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-05,
    }


# the model that is trained on puppets and shipped: three levels, reference as patch tokens and in
# every frame
_SMALL = UniAnimateConfig(
    unet=UNet3DConfig(
        dim=64,
        levels=tuple(LevelSpec(channels=channels, depth=1) for channels in (64, 96, 96)),
        temporal=TemporalTransformerSpec(head_dim=32),
        in_channels=16,
        out_channels=16,
        condition_channels=16,
        context_dim=192,
        num_tokens=64,
        image_tokens="patches",
        head_dim=32,
        dropout=0.0,
        adapter_dropout=0.0,
        reference_in_every_frame=True,
    ),
    width=96,
    height=128,
    num_frames=16,
    steps=20,
    guidance=1.0,
    # below t = 500 every step costs it some accuracy: most of them are spent above
    timestep_shift=10.0,
    text_tokens=4,
    vae=_autoencoder((128,), latents=16, fold=8),
    image_encoder=_vision(width=128, layers=4, size=128, patch=16, out=192),
)

# as small as it can be with every part in place, for tests
_TEST = UniAnimateConfig(
    unet=UNet3DConfig(
        dim=32,
        levels=(LevelSpec(channels=32, depth=1), LevelSpec(channels=32, depth=1)),
        temporal=TemporalTransformerSpec(head_dim=16),
        context_dim=32,
        num_tokens=2,
        head_dim=16,
        dropout=0.0,
        adapter_dropout=0.0,
    ),
    width=32,
    height=48,
    num_frames=4,
    steps=4,
    text_tokens=3,
    vae=_autoencoder((16, 16, 16, 16), latents=4),
    image_encoder=_vision(width=32, layers=1, size=32, patch=16, out=32),
)

PRESETS: dict[str, UniAnimateConfig] = {
    "unianimate-v1": UniAnimateConfig(),
    "unianimate-v1-mamba": UniAnimateConfig(unet=UNet3DConfig(temporal=MambaSpec())),
    "unianimate-v1-mamba2": UniAnimateConfig(unet=UNet3DConfig(temporal=Mamba2Spec())),
    "small": _SMALL,
    "test": _TEST,
}
