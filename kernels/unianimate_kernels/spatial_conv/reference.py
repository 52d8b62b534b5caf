"""The 3x3 convolution by torch: the specification."""

from torch import Tensor
from torch.nn.functional import conv2d


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (N, C_out, H, W)."""
    return conv2d(x, weight, bias, padding=1)
