"""Group normalisation + SiLU in plain torch, for any memory format: the specification.

Splitting the channel axis is a view in every memory format, so nothing is rearranged. Statistics
are float32 (float64 for float64 input), two-pass.
"""

from torch import Tensor
from torch.nn.functional import silu

from ..selective_scan.reference import accumulator


def forward(
    x: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    embedding: Tensor | None,
    activation: str | None,
) -> Tensor:
    """Return the normalised, activated tensor in x's dtype and memory format."""
    dtype = accumulator(x)
    per_channel = (1, -1, *[1] * (x.dim() - 2))
    h = x.to(dtype)
    if embedding is not None:
        h = h + embedding.to(dtype).view(*embedding.shape, *per_channel[2:])
    grouped = h.unflatten(1, (num_groups, -1))
    axes = tuple(range(2, grouped.dim()))
    mean = grouped.mean(axes, keepdim=True)
    centred = grouped - mean
    variance = centred.square().mean(axes, keepdim=True)
    h = (centred * (variance + eps).rsqrt()).flatten(1, 2)
    h = h * weight.to(dtype).view(per_channel) + bias.to(dtype).view(per_channel)
    if activation == "silu":
        h = silu(h)
    return h.to(x.dtype)
