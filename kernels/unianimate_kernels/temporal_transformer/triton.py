"""The transformer on a GPU: torch's products, between them Triton. For inference."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from .._rows import add_layer_norm, layer_norm
from .._transformers import LAYERS
from ..feed_forward.triton import add_feed_forward
from ..group_norm_silu import group_norm_silu
from ..temporal_attention import temporal_attention


def forward(
    x: Tensor, num_groups: int, weights: list[Tensor], num_heads: int, norm_eps: float, eps: float
) -> Tensor:
    """Return (B, C, F, H, W); the weights are in the order of the arguments."""
    norm, proj_in, first, second, inner, proj_out = (weights[part] for part in LAYERS)
    scale, shift = norm
    h = group_norm_silu(x, num_groups, scale, shift, norm_eps, activation=None)
    h, added = linear(h.permute(0, 2, 3, 4, 1).flatten(2, 3), *proj_in), None
    for norm_weight, norm_bias, to_q, to_k, to_v, to_out, bias in (first, second):
        if added is None:
            normed = layer_norm(h, norm_weight, norm_bias, eps)
        else:
            h, normed = add_layer_norm(h, added, norm_weight, norm_bias, eps, None)
        # one product, which reads its input once
        qkv = linear(normed, torch.cat([to_q, to_k, to_v])).unflatten(-1, (3, num_heads, -1))
        added = linear(temporal_attention(*qkv.unbind(3)).flatten(3), to_out, bias)
    h = linear(add_feed_forward(h, added, *inner, eps), *proj_out)
    return x + h.unflatten(2, x.shape[3:]).permute(0, 4, 1, 2, 3)
