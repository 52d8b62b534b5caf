"""The timestep as a vector."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu


def sinusoidal_embedding(timestep: Tensor, dim: int) -> Tensor:
    """Return cosines, then sines, of the timestep at geometric frequencies.

    ``[cos(t * w_i), sin(t * w_i)]`` with ``w_i = 10000 ** (-i / half)`` and ``half = dim // 2``
    (Ho et al., arXiv 2006.11239, with the cosines first). An odd `dim` ends in a zero.

    Args:
        timestep: (B,), any dtype.
        dim: width of the result.

    Returns:
        (B, dim) float32.
    """
    half = dim // 2
    exponents = -torch.arange(half, dtype=torch.float32, device=timestep.device) / half
    angles = timestep.float()[:, None] * torch.pow(10000, exponents)
    return pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))


class TimestepEmbedding(nn.Module):
    """Embed the timestep: ``linear_2(silu(linear_1(sinusoidal_embedding(t))))``.

    Args:
        dim: width of the sinusoid.
        out_dim: width of the result; None is `dim`.
    """

    def __init__(self, dim: int, *, out_dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        width = dim if out_dim is None else out_dim
        self.linear_1 = nn.Linear(dim, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, timestep: Tensor) -> Tensor:
        """Return (B, out_dim) for timesteps (B,)."""
        wave = sinusoidal_embedding(timestep, self.dim).to(self.linear_1.weight.dtype)
        return self.linear_2(silu(self.linear_1(wave)))

    def extra_repr(self) -> str:
        """Tell the widths."""
        return f"{self.dim}, out_dim={self.linear_2.out_features}"
