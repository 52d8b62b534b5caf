"""The 3x1x1 convolution by torch's own kernels: the specification.

It is a plain (3, 1) convolution on a view: with channels last in memory (B, C, F, H, W) is also
(B, C, F, H*W) channels-last, and the 2-D kernels of cuDNN are the better ones. On a CPU with
AVX-512 oneDNN takes the 3-D form as it is, and faster; on others torch's own 3-D kernel unfolds it.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv3d

_VOLUMES = torch.backends.cpu.get_cpu_capability() == "AVX512"


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (B, C_out, F, H, W)."""
    if x.device.type == "cpu" and _VOLUMES:
        y = conv3d(x, weight, bias, padding=(1, 0, 0))
        if x.is_contiguous(memory_format=torch.channels_last_3d):
            # the kernel that torch takes for small sizes loses the format, oneDNN's has it already
            y = y.contiguous(memory_format=torch.channels_last_3d)
        return y
    y = conv2d(x.flatten(3), weight.squeeze(-1), bias, padding=(1, 0))
    return y.unflatten(3, x.shape[3:])
