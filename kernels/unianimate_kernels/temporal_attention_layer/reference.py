"""The layer by torch's products and `temporal_attention`: the specification."""

from torch import Tensor
from torch.nn.functional import layer_norm, linear

from ..temporal_attention import temporal_attention


def forward(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    to_q: Tensor,
    to_k: Tensor,
    to_v: Tensor,
    to_out: Tensor,
    bias: Tensor,
    num_heads: int,
    eps: float,
) -> Tensor:
    """Return (B, F, S, C) for (B, F, S, C)."""
    normed = layer_norm(x, norm_weight.shape, norm_weight, norm_bias, eps)
    qkv = (linear(normed, weight).unflatten(-1, (num_heads, -1)) for weight in (to_q, to_k, to_v))
    return x + linear(temporal_attention(*qkv).flatten(3), to_out, bias)
