"""The feed-forward on a GPU: products by Triton and by torch. For inference.

The residual is added by the second product, which adds to its result in place.
"""

from torch import Tensor
from torch.nn.functional import linear

from .._descriptors import takes_tiles
from .._rows import add_layer_norm
from ..geglu import geglu
from .gated import gated_product

# rows at which the products run at full speed, and their fourfold width is small
_ROWS = 2**17


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
    total, normed = add_layer_norm(
        x.contiguous(), None, norm_weight, norm_bias, eps, None, bias_out
    )
    return add_products(total, normed, weight_in, bias_in, weight_out)


def add_products(
    total: Tensor, normed: Tensor, weight_in: Tensor, bias_in: Tensor, weight_out: Tensor
) -> Tensor:
    """Add ``geglu(normed @ weight_in.T + bias_in) @ weight_out.T`` to ``total`` in place."""
    rows = (t.view(-1, t.shape[-1]).split(_ROWS) for t in (total, normed))
    for into, part in zip(*rows, strict=True):
        into.addmm_(_gated(part, weight_in, bias_in), weight_out.t())
    return total


def _gated(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if takes_tiles(rows, rows.shape[1], weight.shape[0] // 2):
        return gated_product(rows, weight, bias)
    return geglu(linear(rows, weight, bias))
