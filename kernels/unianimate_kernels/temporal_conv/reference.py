"""The 3x1x1 convolution by torch's own kernels: the specification.

It is a plain (3, 1) convolution on a view: with channels last in memory (B, C, F, H, W) is also
(B, C, F, H*W) channels-last, and the 2-D kernels of cuDNN are the better ones. On a CPU with
AVX-512 oneDNN takes the 3-D form as it is, and faster; on others torch's own 3-D kernel unfolds it.
There oneDNN's kernel for the weights' gradient of so narrow a convolution is slow, and matrix
products take its place.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
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
    convolve = _Convolution.apply if x.device.type == "cpu" else _convolve
    y = convolve(x.flatten(3), weight.squeeze(-1), bias)
    return y.unflatten(3, x.shape[3:])


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (B, C_out, F, S) for x (B, C, F, S) and a weight (C_out, C, 3, 1)."""
    return conv2d(x, weight, bias, padding=(1, 0))


class _Convolution(torch.autograd.Function):
    """`_convolve` with the weights' gradient ``sum over f of dy[f] x[f + w - 1]^T``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        turned = weight.transpose(0, 1).flip(2)
        return (
            _convolve(grad, turned, None) if for_x else None,
            _weight_gradient(grad, x) if for_weight else None,
            grad.sum((0, 2, 3)) if for_bias else None,
        )


def _weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    x = x.permute(0, 2, 3, 1)
    total = x.new_zeros(3, grad.shape[1], x.shape[3])
    for shift, part in zip((-1, 0, 1), total):
        first, last = max(0, -shift), x.shape[1] - max(0, shift)
        rows = x[:, first + shift : last + shift].flatten(1, 2)
        part.addbmm_(grad[:, :, first:last].flatten(2), rows)
    return total.permute(1, 2, 0).unsqueeze(-1)
