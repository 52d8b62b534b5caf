"""What the spatial and the temporal transformer share: projections to heads, the feed-forward."""

from typing import Any

import torch
from torch import Tensor, nn

from unianimate.blocks._plain import are_plain
from unianimate.blocks.norm import GroupNorm
from unianimate_kernels import feed_forward, geglu


def heads_of(block: str, dim: int, num_heads: int | None, head_dim: int) -> int:
    """Return the number of heads: the one given, or as many as fill `dim`.

    Raises:
        ValueError: `dim` is not a multiple of `head_dim` and `num_heads` is None.
    """
    if num_heads is not None:
        return num_heads
    if dim % head_dim:
        raise ValueError(
            f"{block}: dim ({dim}) must be a multiple of head_dim ({head_dim}); "
            f"give another head_dim, or num_heads"
        )
    return dim // head_dim


class HeadProjections(nn.Module):
    """The projections around an attention: queries, keys, values without bias, and back.

    Args:
        dim: width of the tokens.
        num_heads: heads.
        head_dim: width of a head.
        context_dim: width of the tokens that keys and values are made of; None is `dim`.
    """

    def __init__(
        self, dim: int, *, num_heads: int, head_dim: int, context_dim: int | None = None
    ) -> None:
        super().__init__()
        inner, source = num_heads * head_dim, dim if context_dim is None else context_dim
        self.num_heads, self.head_dim = num_heads, head_dim
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(source, inner, bias=False)
        self.to_v = nn.Linear(source, inner, bias=False)
        self.to_out = nn.Linear(inner, dim)

    def project(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries of x, keys and values of context, each (..., heads, head_dim)."""
        heads = (self.num_heads, self.head_dim)
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        return q.unflatten(-1, heads), k.unflatten(-1, heads), v.unflatten(-1, heads)

    def layers(self) -> tuple[nn.Module, ...]:
        """Return the projections."""
        return self.to_q, self.to_k, self.to_v, self.to_out

    def weights(self, norm: nn.LayerNorm) -> list[Tensor]:
        """Return the parameters behind a norm, its own first, in the order of the fused ops."""
        projections = [self.to_q.weight, self.to_k.weight, self.to_v.weight, self.to_out.weight]
        return [norm.weight, norm.bias, *projections, self.to_out.bias]

    def extra_repr(self) -> str:
        """Tell the heads."""
        return f"num_heads={self.num_heads}, head_dim={self.head_dim}"


class FeedForward(nn.Module):
    """Two linear layers around a gated GELU, four times as wide inside.

    Args:
        dim: width of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 8 * dim)
        self.out = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., dim) for (..., dim)."""
        return self.out(geglu(self.proj(x)))

    def add_to(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Return ``x + self(norm(x))``, in one op where nothing is kept for a gradient."""
        plain = are_plain((nn.Linear, nn.LayerNorm), norm, *self.layers())
        if torch.is_grad_enabled() or not plain:
            return x + self(norm(x))
        return feed_forward(x, *self.weights(norm), eps=norm.eps)

    def layers(self) -> tuple[nn.Module, ...]:
        """Return the two layers."""
        return self.proj, self.out

    def weights(self, norm: nn.LayerNorm) -> list[Tensor]:
        """Return the parameters behind a norm, its own first, in the order of the fused ops."""
        inner = [self.proj.weight, self.proj.bias, self.out.weight, self.out.bias]
        return [norm.weight, norm.bias, *inner]


class Transformer(nn.Module):
    """What the spatial and the temporal transformer have: two attentions and a feed-forward."""

    norm: GroupNorm
    proj_in: nn.Linear
    norm1: nn.LayerNorm
    norm2: nn.LayerNorm
    norm3: nn.LayerNorm
    attn1: HeadProjections
    attn2: HeadProjections
    ff: FeedForward
    proj_out: nn.Linear

    # what the attentions are, no more and no less, where the whole runs in one op
    _attention: type[HeadProjections]

    def _runs_in_one_op(self) -> bool:
        """Return whether no gradient is wanted and no layer does more than its parameters say."""
        if torch.is_grad_enabled() or self.norm.activation is not None:
            return False
        norms = (self.norm1, self.norm2, self.norm3)
        if len({norm.eps for norm in norms}) > 1:
            return False
        parts = (self.attn1, self.attn2, self.ff)
        layers = (layer for part in parts for layer in (part, *part.layers()))
        kinds = (GroupNorm, nn.LayerNorm, nn.Linear, FeedForward, self._attention)
        return are_plain(kinds, self.norm, self.proj_in, *norms, *layers, self.proj_out)

    def _given(self) -> dict[str, Any]:
        """Return what such an op is given beside its input."""
        return {
            "num_groups": self.norm.num_groups,
            "norm": [self.norm.weight, self.norm.bias],
            "proj_in": [self.proj_in.weight, self.proj_in.bias],
            "attentions": [self.attn1.weights(self.norm1), self.attn2.weights(self.norm2)],
            "feed_forward": self.ff.weights(self.norm3),
            "proj_out": [self.proj_out.weight, self.proj_out.bias],
            "num_heads": self.attn1.num_heads,
            "norm_eps": self.norm.eps,
            "eps": self.norm1.eps,
        }
