"""One forward of the network against the same network in the official layout."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from official_layout import OfficialLayout

from unianimate.models import LevelSpec, TemporalTransformerSpec, UNet3D, UNet3DConfig
from unianimate.profiling import peak_bytes

CONFIG = replace(
    UNet3DConfig(),
    dim=64,
    levels=(
        LevelSpec(channels=64),
        LevelSpec(channels=128),
        LevelSpec(channels=256),
        LevelSpec(channels=256, spatial=False, temporal=False),
    ),
    # the official network's first mixer is 1.6 times as wide as its channels
    temporal=TemporalTransformerSpec(head_dim=64, init_heads=2),
)
FRAMES, SIZE = 16, 32  # the blocks see 17 frames


def setup(dtype: torch.dtype) -> dict[str, Any]:
    """Return the two calls: the official layout, and ours with conditions encoded before."""
    torch.manual_seed(0)
    net = UNet3D(CONFIG).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    net = net.to(dtype)
    given = {
        "text_embeds": torch.randn(1, 77, 1024),
        "image_embeds": torch.randn(1, 1, 1024),
        "pose": torch.rand(1, 3, FRAMES, 8 * SIZE, 8 * SIZE),
        "reference_pose": torch.rand(1, 3, 8 * SIZE, 8 * SIZE),
        "reference_latents": torch.randn(1, 4, SIZE, SIZE),
    }
    given = {name: tensor.to(dtype) for name, tensor in given.items()}
    sample, t = torch.randn(1, 4, FRAMES, SIZE, SIZE).to(dtype), torch.tensor([500])
    conditions = net.encode_conditions(**given, num_frames=FRAMES, latent_size=(SIZE, SIZE))
    baseline = OfficialLayout(net)
    return {
        "official layout": lambda: baseline(sample, t, **given),
        "unianimate": lambda: net(sample, t, conditions),
    }


CASES = [
    ("official layout", torch.float32),
    ("unianimate", torch.float32),
    ("official layout", torch.bfloat16),
    ("unianimate", torch.bfloat16),
]


@pytest.mark.parametrize(("layout", "dtype"), CASES)
def bench_forward(measure: Any, layout: str, dtype: torch.dtype) -> None:
    calls = setup(dtype)
    with torch.no_grad():
        want, got = (calls[name]().float() for name in ("official layout", "unianimate"))
        tolerance = 1e-4 if dtype == torch.float32 else 0.1
        assert (got - want).abs().max() < tolerance * want.abs().max()
        measure(
            "unet3d forward",
            calls[layout],
            rounds=5,
            warmup=2,
            layout=layout,
            dtype=dtype,
            shape=f"dim 64, F={FRAMES + 1}, {SIZE}x{SIZE}",
            peak_mb=round(peak_bytes(calls[layout]) / 2**20),
        )
