"""Self-attention over the frames as a transformer has it: normalisation, projections, residual."""

from .api import temporal_attention_layer

__all__ = ["temporal_attention_layer"]
