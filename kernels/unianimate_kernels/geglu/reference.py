"""The gated GELU in plain torch: the specification. float32 arithmetic, exact (erf) GELU."""

from torch import Tensor
from torch.nn.functional import gelu

from ..selective_scan.reference import accumulator


def forward(x: Tensor) -> Tensor:
    """Return (..., H) for (..., 2H)."""
    value, gate = x.to(accumulator(x)).chunk(2, dim=-1)
    return (value * gelu(gate)).to(x.dtype)
