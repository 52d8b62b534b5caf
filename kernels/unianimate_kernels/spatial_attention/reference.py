"""Attention of tokens by torch: the specification.

By `scaled_dot_product_attention`, but for bfloat16 on a CPU: its kernel there is as slow as in
float32, while matrix products have hardware. They take a few items at a time.
"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

# scores that exist at once
_SCORES = 2**22


def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return (N, L, heads, head_dim)."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        y = scaled_dot_product_attention(q, k, v)
    else:
        y = _by_products(q, k, v)
    return y.transpose(1, 2).contiguous()


def _by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v for queries (N, heads, L, d) and keys (N, heads, M, d)."""
    items = max(1, _SCORES // (q.shape[1] * q.shape[2] * k.shape[2]))
    keys = (k * k.shape[-1] ** -0.5).transpose(-2, -1)
    parts = zip(q.split(items), keys.split(items), v.split(items))
    return torch.cat([(a @ b).softmax(-1) @ c for a, b, c in parts])
