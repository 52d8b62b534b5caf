"""Attention over the frames, at every location."""

from torch import Tensor, nn

from unianimate.blocks._layout import channels_last, from_locations, to_locations
from unianimate.blocks.attention import FeedForward, HeadProjections, Transformer, heads_of
from unianimate.blocks.norm import GroupNorm
from unianimate.blocks.resnet import zero_init
from unianimate_kernels import temporal_attention, temporal_transformer


class TemporalAttention(HeadProjections):
    """Multi-head self-attention over the frames of (B, F, S, dim), at every location S."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, F, S, dim) for (B, F, S, dim)."""
        return self.to_out(temporal_attention(*self.project(x, x)).flatten(3))


class TemporalTransformer(Transformer):
    """Mix the frames by attention: the temporal mixer of the official model.

    At every location, on the sequence h over the frames::

        h = proj_in(GroupNorm(x))                      statistics over the clip
        h = h + attn1(norm1(h)); h = h + attn2(norm2(h)); h = h + ff(norm3(h))
        y = x + proj_out(h)                            proj_out starts at zero

    It has no notion of the order of the frames. Source: the temporal transformer of ModelScope,
    arXiv 2308.06571, as the UniAnimate release uses it.

    Args:
        dim: channels, a multiple of 32.
        num_heads: heads; None is ``dim / head_dim``. The inner width is num_heads * head_dim.
        head_dim: width of a head.
    """

    _attention = TemporalAttention

    def __init__(self, dim: int, *, num_heads: int | None = None, head_dim: int = 64) -> None:
        super().__init__()
        heads = heads_of("TemporalTransformer", dim, num_heads, head_dim)
        inner = heads * head_dim
        self.dim, self.num_heads, self.head_dim = dim, heads, head_dim
        self.norm = GroupNorm(dim, eps=1e-6, activation=None)
        self.proj_in = nn.Linear(dim, inner)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(inner) for _ in range(3))
        self.attn1 = TemporalAttention(inner, num_heads=heads, head_dim=head_dim)
        self.attn2 = TemporalAttention(inner, num_heads=heads, head_dim=head_dim)
        self.ff = FeedForward(inner)
        self.proj_out = nn.Linear(inner, dim)
        zero_init(self.proj_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, F, H, W) for (B, C, F, H, W)."""
        x = channels_last(x)
        given = self._given()
        if given is not None:
            return temporal_transformer(x, **given)
        h = self.proj_in(to_locations(self.norm(x)))
        h = h + self.attn1(self.norm1(h))
        h = h + self.attn2(self.norm2(h))
        h = self.ff.add_to(h, self.norm3)
        return x + from_locations(self.proj_out(h), *x.shape[3:])

    def extra_repr(self) -> str:
        """Tell the sizes."""
        return f"{self.dim}, num_heads={self.num_heads}, head_dim={self.head_dim}"
