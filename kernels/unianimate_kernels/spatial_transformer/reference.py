"""The transformer by torch's products, `group_norm_silu` and `spatial_attention`."""

from torch import Tensor
from torch.nn.functional import layer_norm, linear

from .._transformers import LAYERS
from ..feed_forward.reference import forward as feed_forward
from ..group_norm_silu import group_norm_silu
from ..spatial_attention.reference import forward as attend


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
    for layer, source in ((first, None), (second, context)):
        norm_weight, norm_bias, to_q, to_k, to_v, to_out, bias = layer
        if source is not None:
            h = h.unflatten(0, (batch, frames)).flatten(1, 2)  # (B, F*S, I): a context an item
        normed = layer_norm(h, norm_weight.shape, norm_weight, norm_bias, eps)
        k, v = (linear(normed if source is None else source, weight) for weight in (to_k, to_v))
        heads = (t.unflatten(-1, (num_heads, -1)) for t in (linear(normed, to_q), k, v))
        h = h + linear(attend(*heads).flatten(2), to_out, bias)
    norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out = inner
    h = feed_forward(h, norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out, eps)
    h = linear(h, *proj_out).unflatten(1, (frames, *x.shape[3:]))
    return x + h.permute(0, 4, 1, 2, 3)
