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
    return torch.stack([_attend(*item, scale) for item in zip(q, k, v)])


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return one item (F, S, heads, head_dim), made of as many locations at once as allowed."""
    parts = zip(*(t.permute(1, 2, 0, 3).split(_MAX_LOCATIONS) for t in (q, k, v)))
    rows = [scaled_dot_product_attention(qs, ks, vs, scale=scale) for qs, ks, vs in parts]
    return torch.cat(rows).permute(2, 0, 1, 3)
