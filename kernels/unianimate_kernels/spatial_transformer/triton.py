"""The transformer on a GPU: torch's products and attention, between them Triton. For inference."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from .._rows import add_layer_norm, layer_norm
from .._transformers import LAYERS
from ..feed_forward.triton import add_feed_forward
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
    scale, shift = norm
    batch, frames = x.shape[0], x.shape[2]
    pictures = x.transpose(1, 2).flatten(0, 1)
    h = group_norm_silu(pictures, num_groups, scale, shift, norm_eps, activation=None)
    h = linear(h.permute(0, 2, 3, 1).flatten(1, 2), *proj_in)  # (B*F, S, I): a frame sees itself

    norm_weight, norm_bias, to_q, to_k, to_v, to_out, bias = first
    normed = layer_norm(h, norm_weight, norm_bias, eps)
    # one product, which reads its input once
    qkv = linear(normed, torch.cat([to_q, to_k, to_v])).unflatten(-1, (3, num_heads, -1))
    added = linear(spatial_attention(*qkv.unbind(2)).flatten(2), to_out, bias)

    norm_weight, norm_bias, to_q, to_k, to_v, to_out, bias = second
    h, normed = add_layer_norm(h, added, norm_weight, norm_bias, eps, None)
    h, normed = (t.unflatten(0, (batch, frames)).flatten(1, 2) for t in (h, normed))
    heads = (linear(t, w) for t, w in ((normed, to_q), (context, to_k), (context, to_v)))
    attended = spatial_attention(*(t.unflatten(-1, (num_heads, -1)) for t in heads))
    added = linear(attended.flatten(2), to_out, bias)

    h = linear(add_feed_forward(h, added, *inner, eps), *proj_out)
    return x + h.unflatten(1, (frames, *x.shape[3:])).permute(0, 4, 1, 2, 3)
