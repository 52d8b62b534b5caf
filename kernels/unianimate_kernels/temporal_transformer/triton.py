"""The transformer on a GPU: torch's products, between them Triton. For inference.

What a product adds to its rows the next kernel adds: with it torch's products of 320 channels take
twice the time on an H200.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from .._rows import add_layer_norm, add_rows, layer_norm
from .._transformers import LAYERS
from ..feed_forward.triton import add_products
from ..group_norm_silu import group_norm_silu
from ..temporal_attention import temporal_attention


def forward(
    x: Tensor, num_groups: int, weights: list[Tensor], num_heads: int, norm_eps: float, eps: float
) -> Tensor:
    """Return (B, C, F, H, W); the weights are in the order of the arguments."""
    norm, proj_in, first, second, inner, proj_out = (weights[part] for part in LAYERS)
    (scale, shift), (weight, bias) = norm, proj_in
    h = group_norm_silu(x, num_groups, scale, shift, norm_eps, activation=None)
    h = linear(h.permute(0, 2, 3, 4, 1).flatten(2, 3), weight)
    added = _attend(layer_norm(h, first[0], first[1], eps, bias), first, num_heads)
    h, normed = add_layer_norm(h, added, second[0], second[1], eps, bias + first[-1], None)
    added = _attend(normed, second, num_heads)
    norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out = inner
    h, normed = add_layer_norm(h, added, norm_weight, norm_bias, eps, second[-1], bias_out)
    del added  # a sixteenth of what is held in the feed-forward
    h = linear(add_products(h, normed, weight_in, bias_in, weight_out), proj_out[0])
    x = x.permute(0, 2, 3, 4, 1).contiguous()
    return add_rows(x, h.view(x.shape), proj_out[1]).permute(0, 4, 1, 2, 3)


def _attend(normed: Tensor, layer: list[Tensor], num_heads: int) -> Tensor:
    """Return what an attention adds to (B, F, S, I), less its bias; q, k, v by one product."""
    _, _, to_q, to_k, to_v, to_out, _ = layer
    qkv = linear(normed, torch.cat([to_q, to_k, to_v])).unflatten(-1, (3, num_heads, -1))
    return linear(temporal_attention(*qkv.unbind(3)).flatten(3), to_out)
