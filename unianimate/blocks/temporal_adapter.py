"""The small transformer over frames that follows every condition encoder."""

from torch import Tensor, nn
from torch.nn.functional import dropout

from unianimate.blocks._layout import channels_last, from_locations, to_locations
from unianimate_kernels import temporal_attention

_HEADS = 2


class TemporalAdapter(nn.Module):
    """One layer of attention over the frames and a feed-forward, at every location.

    ``x + to_out(attention(to_qkv(norm(x))))``, then ``x + ff(x)`` without a norm. Two heads, each
    as wide as the input. Source: the UniAnimate release.

    Args:
        dim: channels.
        dropout: probability behind the attention and inside the feed-forward.
    """

    def __init__(self, dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        inner = _HEADS * dim
        self.dim, self.dropout = dim, dropout
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim)
        activation = nn.Sequential(nn.GELU(), nn.Dropout(dropout))
        self.ff = nn.Sequential(nn.Linear(dim, 4 * dim), activation, nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, F, H, W) for (B, C, F, H, W)."""
        h = to_locations(channels_last(x))
        qkv = self.to_qkv(self.norm(h)).chunk(3, dim=-1)
        mixed = temporal_attention(*(t.unflatten(-1, (_HEADS, self.dim)) for t in qkv))
        h = h + dropout(self.to_out(mixed.flatten(3)), self.dropout, self.training)
        h = h + self.ff(h)
        return from_locations(h, *x.shape[3:])

    def extra_repr(self) -> str:
        """Tell the sizes."""
        return f"{self.dim}, dropout={self.dropout}"
