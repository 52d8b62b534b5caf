"""Attention over frames by xformers' memory-efficient attention, which has its own gradients."""

import torch
from torch import Tensor
from xformers.ops import memory_efficient_attention

# CUDA grids end at 65535 rows, and so do its kernels (xformers#845)
_MAX_SEQUENCES = 65535


def forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return (B, F, S, heads, head_dim), a permuted view of sequences (B*S, F, heads, head_dim)."""
    batch, frames, locations = q.shape[:3]
    sequences = (t.transpose(1, 2).reshape(-1, frames, *t.shape[3:]) for t in (q, k, v))
    parts = zip(*(t.split(_MAX_SEQUENCES) for t in sequences), strict=True)
    out = torch.cat([memory_efficient_attention(*part, scale=scale) for part in parts])
    return out.view(batch, locations, *out.shape[1:]).transpose(1, 2).contiguous()
