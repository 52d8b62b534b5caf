"""The 3x1x1 convolution by torch's own kernels: the specification.

With channels last in memory (B, C, F, H, W) is also (B, C, F, H W) channels-last, so a plain (3, 1)
convolution on that view does it, and cuDNN's 2-D kernels are the better ones. On a CPU oneDNN takes
the 3-D form as it is, of large pictures faster, where torch asks it to; elsewhere torch unfolds
volumes itself, which is slower than the view.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv3d

_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
# B C F H, above which torch leaves a single clip to oneDNN
_LARGE = 20480


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (B, C_out, F, H, W)."""
    if x.device.type == "cpu" and _by_one_dnn(x):
        y = conv3d(x, weight, bias, padding=(1, 0, 0))
        if x.is_contiguous(memory_format=torch.channels_last_3d):
            # the kernel that torch takes for small sizes loses the format, oneDNN's has it already
            y = y.contiguous(memory_format=torch.channels_last_3d)
        return y
    # not x.flatten(3): of a single clip torch would no longer see that its channels are last
    view = x.permute(0, 2, 3, 4, 1).flatten(2, 3).permute(0, 3, 1, 2)
    y = conv2d(view, weight.squeeze(-1), bias, padding=(1, 0))
    return y.permute(0, 2, 3, 1).unflatten(2, x.shape[3:]).permute(0, 4, 1, 2, 3)


def _by_one_dnn(x: Tensor) -> bool:
    """Return whether torch leaves the 3-D form to oneDNN (aten, `ConvParams::use_mkldnn`)."""
    if x.dtype != torch.float32:
        return _AVX512
    return _threads() > 1 and (x.shape[0] > 1 or x.shape[:4].numel() > _LARGE)


@torch.compiler.assume_constant_result
def _threads() -> int:
    return torch.get_num_threads()
