"""The transformer by torch's products, `group_norm_silu` and `temporal_attention`."""

from torch import Tensor
from torch.nn.functional import layer_norm, linear

from .._transformers import LAYERS
from ..feed_forward.reference import forward as feed_forward
from ..group_norm_silu import group_norm_silu
from ..temporal_attention import temporal_attention


def forward(
    x: Tensor, num_groups: int, weights: list[Tensor], num_heads: int, norm_eps: float, eps: float
) -> Tensor:
    """Return (B, C, F, H, W); the weights are in the order of the arguments."""
    norm, proj_in, first, second, inner, proj_out = (weights[part] for part in LAYERS)
    scale, shift = norm
    h = group_norm_silu(x, num_groups, scale, shift, norm_eps, activation=None)
    h = linear(h.permute(0, 2, 3, 4, 1).flatten(2, 3), *proj_in)
    for norm_weight, norm_bias, to_q, to_k, to_v, to_out, bias in (first, second):
        normed = layer_norm(h, norm_weight.shape, norm_weight, norm_bias, eps)
        qkv = (linear(normed, w).unflatten(-1, (num_heads, -1)) for w in (to_q, to_k, to_v))
        h = h + linear(temporal_attention(*qkv).flatten(3), to_out, bias)
    norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out = inner
    h = feed_forward(h, norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out, eps)
    h = linear(h, *proj_out)
    return x + h.unflatten(2, x.shape[3:]).permute(0, 4, 1, 2, 3)
