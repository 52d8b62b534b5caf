"""Human image animation with one unified video diffusion model, temporal Mamba and fast kernels.

Names are loaded when they are first used: importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unianimate._version import __version__

if TYPE_CHECKING:
    from unianimate.blocks import NoiseScheduler
    from unianimate.models import (
        PRESETS,
        VAE,
        UNet3D,
        UNet3DConfig,
        UniAnimate,
        UniAnimateConfig,
    )
    from unianimate.pipelines import AnimatePipeline
    from unianimate_kernels import use_backend

__all__ = [
    "PRESETS",
    "VAE",
    "AnimatePipeline",
    "NoiseScheduler",
    "UNet3D",
    "UNet3DConfig",
    "UniAnimate",
    "UniAnimateConfig",
    "__version__",
    "use_backend",
]

_HOME = {
    "AnimatePipeline": "unianimate.pipelines",
    "NoiseScheduler": "unianimate.blocks",
    "use_backend": "unianimate_kernels",
    **dict.fromkeys(
        ("PRESETS", "UNet3D", "UNet3DConfig", "UniAnimate", "UniAnimateConfig", "VAE"),
        "unianimate.models",
    ),
}


def __getattr__(name: str) -> Any:
    """Load a public name from the package that defines it."""
    if name not in _HOME:
        raise AttributeError(f"module 'unianimate' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
