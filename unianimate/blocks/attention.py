"""What the spatial and the temporal transformer share: projections to heads, the feed-forward."""

from typing import Any

import torch
from torch import Tensor, nn

from unianimate.blocks._plain import layers_of, plain_parameters
from unianimate.blocks.norm import GroupNorm
from unianimate_kernels import feed_forward, geglu

# layers by name, in the order of the fused ops, and how many weights those take
_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out")
_INNER = ("proj", "out")
_LAYERS = ("norm", "proj_in", "norm1", "attn1", "norm2", "attn2", "norm3", "ff", "proj_out")
_FEED_FORWARD, _WEIGHTS = 6, 26


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
        layers = layers_of(self, *_INNER)
        weights = plain_parameters((nn.LayerNorm, FeedForward, nn.Linear), norm, *layers)
        if torch.is_grad_enabled() or weights is None or len(weights) != _FEED_FORWARD:
            return x + self(norm(x))
        return feed_forward(x, *weights, eps=norm.eps)


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

    def _given(self) -> dict[str, Any] | None:
        """Return what an op of the whole is given beside its input; None where it may not run.

        It runs where no gradient is wanted and no layer does more than its parameters say.
        """
        if torch.is_grad_enabled():
            return None
        norm, proj_in, norm1, attn1, norm2, attn2, norm3, ff, proj_out = map(
            self._modules.get, _LAYERS
        )
        weights = plain_parameters(
            (GroupNorm, nn.LayerNorm, nn.Linear, FeedForward, self._attention),
            *(norm, proj_in, norm1, *layers_of(attn1, *_PROJECTIONS)),
            *(norm2, *layers_of(attn2, *_PROJECTIONS), norm3, *layers_of(ff, *_INNER), proj_out),
        )
        if weights is None or len(weights) != _WEIGHTS or self.norm.activation is not None:
            return None
        eps = self.norm1.eps
        if self.norm2.eps != eps or self.norm3.eps != eps:
            return None
        return {
            "num_groups": self.norm.num_groups,
            "norm": weights[:2],
            "proj_in": weights[2:4],
            "attentions": [weights[4:11], weights[11:18]],
            "feed_forward": weights[18:24],
            "proj_out": weights[24:],
            "num_heads": self.attn1.num_heads,
            "norm_eps": self.norm.eps,
            "eps": eps,
        }
