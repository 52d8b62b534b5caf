"""Attention over frames by torch's scaled_dot_product_attention: the specification.

Each batch item is a 4-D permuted view (S, heads, F, head_dim), which the fused kernels take as it
is; a 5-D view, or both items at once, would be copied or sent to the slow path.
"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

# CUDA grids end at 65535 rows, and so do the fused kernels (pytorch#142228)
_MAX_LOCATIONS = 65535


def forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return (B, F, S, heads, head_dim)."""
    items = [
        torch.cat(
            [
                _attend(*part, scale)
                for part in zip(*(t.split(_MAX_LOCATIONS, dim=1) for t in (qi, ki, vi)))
            ]
        ).permute(2, 0, 1, 3)
        for qi, ki, vi in zip(q, k, v)
    ]
    return torch.stack(items)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return (S, heads, F, head_dim) for one item (F, S, heads, head_dim)."""
    views = (tensor.permute(1, 2, 0, 3) for tensor in (q, k, v))
    return scaled_dot_product_attention(*views, scale=scale)
