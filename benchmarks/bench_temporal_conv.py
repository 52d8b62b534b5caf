"""The 3x1x1 convolution: C++ against torch's convolution on a view and in three dimensions."""

import pytest
import torch
from torch.nn.functional import conv3d

from unianimate_kernels import temporal_conv


def forward(method, x, weight):
    if method == "conv3d":
        return conv3d(x, weight, padding=(1, 0, 0))
    return temporal_conv(x, weight, backend=method)


@pytest.mark.parametrize("method", ["native", "reference", "conv3d"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("channels", "side"), [(64, 32), (320, 32), (1280, 8)])
def bench_conv(measure, channels, side, backward, method):
    x = torch.randn(1, channels, 17, side, side).to(memory_format=torch.channels_last_3d)
    weight = torch.randn(channels, channels, 3, 1, 1) / channels
    inputs = (x.requires_grad_(backward), weight.requires_grad_(backward))
    out = forward(method, *inputs)
    torch.testing.assert_close(out, forward("reference", *inputs), rtol=1e-4, atol=1e-4)
    grad = torch.randn_like(out)

    def run():
        if backward:
            return torch.autograd.grad(out, inputs, grad, retain_graph=True)
        return forward(method, *inputs)

    group = f"temporal_conv {channels}x{side} {'backward' if backward else 'forward'}"
    measure(group, run, rounds=5, warmup=1, method=method)
