"""Attention over the locations of a frame, and from them to a context."""

import torch
from torch import Tensor, nn

from unianimate.blocks._layout import (
    channels_last,
    from_frames,
    from_locations,
    to_frames,
    to_locations,
)
from unianimate.blocks.attention import FeedForward, HeadProjections, Transformer, heads_of
from unianimate.blocks.norm import GroupNorm
from unianimate.blocks.resnet import zero_init
from unianimate_kernels import spatial_attention, spatial_transformer


class TokenAttention(HeadProjections):
    """Multi-head attention of tokens (N, L, dim) to themselves or to a context (N, M, ctx)."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return (N, L, dim)."""
        q, k, v = self.project(x, x if context is None else context)
        # the native form has no gradient; where ops are bound to it, training goes on all the same
        backend = "reference" if torch.is_grad_enabled() else None
        return self.to_out(spatial_attention(q, k, v, backend=backend).flatten(2))


class SpatialTransformer(Transformer):
    """Let the locations of a frame see one another, and all of them a context.

    On the tokens h of every frame::

        h = proj_in(GroupNorm(x))                      statistics of each frame
        h = h + attn1(norm1(h)); h = h + attn2(norm2(h), context); h = h + ff(norm3(h))
        y = x + proj_out(h)                            proj_out starts at zero

    The context is shared by the frames of an item, so its keys and values are computed once.
    Source: Rombach et al., arXiv 2112.10752, with linear projections.

    Args:
        dim: channels, a multiple of 32.
        num_heads: heads; None is ``dim / head_dim``.
        head_dim: width of a head.
        context_dim: width of the context tokens; None makes `attn2` a second self-attention.
    """

    _attention = TokenAttention

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int | None = None,
        head_dim: int = 64,
        context_dim: int | None = None,
    ) -> None:
        super().__init__()
        heads = heads_of("SpatialTransformer", dim, num_heads, head_dim)
        inner = heads * head_dim
        self.dim, self.num_heads, self.head_dim = dim, heads, head_dim
        self.context_dim = context_dim
        self.norm = GroupNorm(dim, eps=1e-6, activation=None)
        self.proj_in = nn.Linear(dim, inner)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(inner) for _ in range(3))
        self.attn1 = TokenAttention(inner, num_heads=heads, head_dim=head_dim)
        self.attn2 = TokenAttention(
            inner, num_heads=heads, head_dim=head_dim, context_dim=context_dim
        )
        self.ff = FeedForward(inner)
        self.proj_out = nn.Linear(inner, dim)
        zero_init(self.proj_out)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Transform a video.

        Args:
            x: (B, dim, F, H, W).
            context: (B, L, context_dim), the same for all frames of an item.

        Returns:
            (B, dim, F, H, W).

        Raises:
            ValueError: the context is missing, of another batch size, or given to a block built
                without `context_dim`.
        """
        if (context is None) != (self.context_dim is None):
            need = (
                "was built without context_dim and takes no" if context is not None else "needs a"
            )
            raise ValueError(f"SpatialTransformer: it {need} context")
        if context is not None and context.shape[0] != x.shape[0]:
            raise ValueError(
                f"SpatialTransformer: the context must have the {x.shape[0]} items of x, "
                f"got {context.shape[0]}; expand one that all share"
            )
        x = channels_last(x)
        given = self._given()
        if context is not None and given is not None:
            return spatial_transformer(x, context, **given)
        batch, frames = x.shape[0], x.shape[2]
        h = self.proj_in(to_locations(from_frames(self.norm(to_frames(x)), batch)))
        h = h.flatten(0, 1)  # (B*F, S, C): a frame sees itself
        h = h + self.attn1(self.norm1(h))
        if context is not None:
            h = h.unflatten(0, (batch, frames)).flatten(1, 2)  # (B, F*S, C): one context an item
        h = h + self.attn2(self.norm2(h), context)
        h = self.ff.add_to(h, self.norm3)
        h = self.proj_out(h).view(batch, frames, -1, self.dim)
        return x + from_locations(h, *x.shape[3:])

    def extra_repr(self) -> str:
        """Tell the sizes."""
        return (
            f"{self.dim}, num_heads={self.num_heads}, head_dim={self.head_dim}, "
            f"context_dim={self.context_dim}"
        )
