"""Torch ops for video diffusion: scans, convolutions, norms and attention over the frames.

Each op is a folder: ``api.py`` (signature, meaning, checks), ``reference.py`` (the specification
in plain torch), ``native.py`` (C++ and CUDA), ``triton.py``, ``peer.py`` and a README.
"""

from ._backends import (
    REFERENCE,
    inference_backend,
    native_backend,
    peer_backend,
    triton_backend,
)
from ._dispatch import (
    BackendError,
    available_backends,
    check_process_backend,
    register,
    use_backend,
)
from ._packed import keep_packed_weights
from .bidirectional_selective_scan import bidirectional_selective_scan
from .causal_conv1d import causal_conv1d
from .feed_forward import feed_forward
from .geglu import geglu
from .group_norm_silu import group_norm_silu
from .resnet_block import resnet_block
from .rms_norm import rms_norm
from .selective_scan import selective_scan
from .spatial_attention import spatial_attention
from .spatial_conv import spatial_conv
from .spatial_transformer import spatial_transformer
from .ssd_scan import ssd_scan
from .temporal_attention import temporal_attention
from .temporal_conv import temporal_conv
from .temporal_conv_block import temporal_conv_block
from .temporal_transformer import temporal_transformer

__all__ = [
    "BackendError",
    "available_backends",
    "bidirectional_selective_scan",
    "causal_conv1d",
    "feed_forward",
    "geglu",
    "group_norm_silu",
    "keep_packed_weights",
    "resnet_block",
    "rms_norm",
    "selective_scan",
    "spatial_attention",
    "spatial_conv",
    "spatial_transformer",
    "ssd_scan",
    "temporal_attention",
    "temporal_conv",
    "temporal_conv_block",
    "temporal_transformer",
    "use_backend",
]

# in order of preference: each op's README has the measurements
register(
    "selective_scan",
    native=native_backend("selective_scan"),
    triton=triton_backend(),
    reference=REFERENCE,
    mamba_ssm=peer_backend("mamba_ssm", "mamba-ssm"),
)
register(
    "bidirectional_selective_scan",
    native=native_backend("bidirectional_selective_scan"),
    triton=triton_backend(),
    reference=REFERENCE,
)
register(
    "ssd_scan",
    native=native_backend("ssd_scan"),
    triton=triton_backend(),
    reference=REFERENCE,
    mamba_ssm=peer_backend("mamba_ssm", "mamba-ssm"),
)
register(
    "causal_conv1d",
    native=native_backend("causal_conv1d"),
    triton=triton_backend(),
    reference=REFERENCE,
    causal_conv1d=peer_backend("causal_conv1d", "causal-conv1d"),
)
register(
    "group_norm_silu",
    native=native_backend("group_norm_silu"),
    triton=triton_backend(),
    reference=REFERENCE,
)
register(
    "rms_norm",
    native=native_backend("rms_norm", cuda=False),
    triton=triton_backend(),
    reference=REFERENCE,
)
register(
    "temporal_attention",
    native=native_backend("temporal_attention", cuda=False),
    triton=triton_backend(),
    reference=REFERENCE,
    xformers=peer_backend("xformers", "xformers"),
)
register(
    "spatial_attention",
    native=native_backend("spatial_attention", cuda=False),
    reference=REFERENCE,
)
register("spatial_conv", native=inference_backend("spatial_conv"), reference=REFERENCE)
register("temporal_conv", reference=REFERENCE, native=native_backend("temporal_conv", cuda=False))
register(
    "geglu",
    native=native_backend("geglu", cuda=False),
    triton=triton_backend(),
    reference=REFERENCE,
)
register(
    "feed_forward",
    native=inference_backend("feed_forward"),
    triton=triton_backend(),
    reference=REFERENCE,
)
register(
    "temporal_transformer",
    native=inference_backend("temporal_transformer"),
    triton=triton_backend(),
    reference=REFERENCE,
)
register(
    "resnet_block",
    native=inference_backend("resnet_block"),
    triton=triton_backend(),
    reference=REFERENCE,
)
register(
    "temporal_conv_block",
    native=inference_backend("temporal_conv_block"),
    triton=triton_backend(),
    reference=REFERENCE,
)
register(
    "spatial_transformer",
    native=inference_backend("spatial_transformer"),
    triton=triton_backend(),
    reference=REFERENCE,
)
check_process_backend()
