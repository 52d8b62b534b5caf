"""GroupNorm with SiLU in one pass, in any memory format."""

from typing import Literal

from torch import Tensor, nn

from unianimate_kernels import group_norm_silu

NUM_GROUPS = 32


class GroupNorm(nn.GroupNorm):
    """Group normalisation, then SiLU, by the op `group_norm_silu`.

    The view decides what the statistics are taken over: (B*F, C, H, W) normalises every frame for
    itself, (B, C, F, H, W) the whole clip.

    Args:
        dim: channels, a multiple of the groups.
        num_groups: groups of channels.
        eps: added to the variance.
        activation: "silu" or None.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_groups: int = NUM_GROUPS,
        eps: float = 1e-5,
        activation: Literal["silu"] | None = "silu",
    ) -> None:
        if dim < 1 or dim % num_groups:
            raise ValueError(f"GroupNorm: dim must be a multiple of {num_groups}, got {dim}")
        super().__init__(num_groups, dim, eps)
        self.activation: Literal["silu"] | None = activation

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Normalise x (N, C, ...); `embedding` (N, C) is added before the statistics."""
        return group_norm_silu(
            x,
            self.num_groups,
            self.weight,
            self.bias,
            self.eps,
            embedding=embedding,
            activation=self.activation,
        )

    def extra_repr(self) -> str:
        """Tell the sizes and the activation."""
        return f"{self.num_channels}, eps={self.eps}, activation={self.activation!r}"
