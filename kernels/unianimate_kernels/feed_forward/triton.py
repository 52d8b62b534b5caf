"""The feed-forward on a GPU: torch's products, between them Triton. For inference.

The residual is added by the second product, which adds to its result in place.
"""

from torch import Tensor
from torch.nn.functional import linear

from .._rows import add_layer_norm
from ..geglu import geglu


def forward(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_in: Tensor,
    bias_in: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    eps: float,
) -> Tensor:
    """Return (..., C) for (..., C)."""
    return add_feed_forward(
        x, None, norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out, eps
    )


def add_feed_forward(
    x: Tensor,
    added: Tensor | None,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_in: Tensor,
    bias_in: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    eps: float,
) -> Tensor:
    """Return the feed-forward of ``x + added``, its residual included."""
    added = None if added is None else added.contiguous()
    total, normed = add_layer_norm(x.contiguous(), added, norm_weight, norm_bias, eps, bias_out)
    wide = geglu(linear(normed, weight_in, bias_in))
    total.view(-1, total.shape[-1]).addmm_(wide.view(-1, wide.shape[-1]), weight_out.t())
    return total
