"""The 3x1x1 convolution as a plain (3, 1) convolution on a view.

With channels last in memory (B, C, F, H, W) is also (B, C, F, H*W) channels-last, where a 2-D
convolution of kernel (3, 1) is the same sum and has a good kernel everywhere.
"""

from torch import Tensor
from torch.nn.functional import conv2d


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (B, C_out, F, H, W)."""
    y = conv2d(x.flatten(3), weight.squeeze(-1), bias, padding=(1, 0))
    return y.unflatten(3, x.shape[3:])
