"""Blocks to compose video networks of: modules that know tensors, not tasks.

Each takes and returns a video (B, C, F, H, W), channels last in memory, and owns its norm and
residual. `NoiseScheduler` and `UnifiedNoise` are the diffusion around them.
"""

from unianimate.blocks.embeddings import TimestepEmbedding
from unianimate.blocks.mamba import MambaState
from unianimate.blocks.noise_scheduler import NoiseScheduler
from unianimate.blocks.pose_encoder import PoseEncoder
from unianimate.blocks.reference_encoder import ReferenceEncoder
from unianimate.blocks.resnet import Downsample, ResnetBlock, TemporalConvBlock, Upsample
from unianimate.blocks.spatial_attention import SpatialTransformer
from unianimate.blocks.temporal_adapter import TemporalAdapter
from unianimate.blocks.temporal_attention import TemporalTransformer
from unianimate.blocks.temporal_mamba import TemporalMamba
from unianimate.blocks.temporal_mamba2 import TemporalMamba2
from unianimate.blocks.unified_noise import UnifiedNoise

__all__ = [
    "Downsample",
    "MambaState",
    "NoiseScheduler",
    "PoseEncoder",
    "ReferenceEncoder",
    "ResnetBlock",
    "SpatialTransformer",
    "TemporalAdapter",
    "TemporalConvBlock",
    "TemporalMamba",
    "TemporalMamba2",
    "TemporalTransformer",
    "TimestepEmbedding",
    "UnifiedNoise",
    "Upsample",
]
