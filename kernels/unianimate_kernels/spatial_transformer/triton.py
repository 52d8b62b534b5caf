"""The transformer on a GPU: torch's products and attention, between them Triton. For inference.

The next kernel adds what a product adds to its rows, as in `temporal_transformer`.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from .._rows import add_layer_norm, add_rows, layer_norm
from .._transformers import LAYERS
from ..feed_forward.triton import add_products
from ..group_norm_silu import group_norm_silu
from ..spatial_attention import spatial_attention


def forward(
    x: Tensor,
    context: Tensor,
    num_groups: int,
    weights: list[Tensor],
    num_heads: int,
    norm_eps: float,
    eps: float,
) -> Tensor:
    """Return (B, C, F, H, W); the weights are in the order of the arguments."""
    norm, proj_in, first, second, inner, proj_out = (weights[part] for part in LAYERS)
    (scale, shift), (weight, bias) = norm, proj_in
    batch, frames = x.shape[0], x.shape[2]
    pictures = x.transpose(1, 2).flatten(0, 1)
    h = group_norm_silu(pictures, num_groups, scale, shift, norm_eps, activation=None)
    h = linear(h.permute(0, 2, 3, 1).flatten(1, 2), weight)  # (B*F, S, I): a frame sees itself
    added = _attend_itself(layer_norm(h, first[0], first[1], eps, bias), first, num_heads)
    h, normed = add_layer_norm(h, added, second[0], second[1], eps, bias + first[-1], None)
    normed = normed.unflatten(0, (batch, frames)).flatten(1, 2)  # (B, F*S, I): a context an item
    added = _attend_context(normed, context, second, num_heads).view(h.shape)
    norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out = inner
    h, normed = add_layer_norm(h, added, norm_weight, norm_bias, eps, second[-1], bias_out)
    del added  # a sixteenth of what is held in the feed-forward
    h = linear(add_products(h, normed, weight_in, bias_in, weight_out), proj_out[0])
    x = x.permute(0, 2, 3, 4, 1).contiguous()
    return add_rows(x, h.view(x.shape), proj_out[1]).permute(0, 4, 1, 2, 3)


def _attend_itself(normed: Tensor, layer: list[Tensor], num_heads: int) -> Tensor:
    """Return what an attention adds to (N, S, I), less its bias; q, k, v by one product."""
    _, _, to_q, to_k, to_v, to_out, _ = layer
    qkv = linear(normed, torch.cat([to_q, to_k, to_v])).unflatten(-1, (3, num_heads, -1))
    return linear(spatial_attention(*qkv.unbind(2)).flatten(2), to_out)


def _attend_context(normed: Tensor, context: Tensor, layer: list[Tensor], num_heads: int) -> Tensor:
    """Return what an attention to (B, M, D) adds to (B, L, I), less its bias."""
    _, _, to_q, to_k, to_v, to_out, _ = layer
    q, k, v = linear(normed, to_q), linear(context, to_k), linear(context, to_v)
    heads = (t.unflatten(-1, (num_heads, -1)) for t in (q, k, v))
    return linear(spatial_attention(*heads).flatten(2), to_out)
