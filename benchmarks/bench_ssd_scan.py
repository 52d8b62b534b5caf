"""Mamba-2's scan: native C++ and the torch reference, at 384 locations and two heads."""

import pytest
import torch

from unianimate_kernels import ssd_scan

SPACE, HEADS, WIDTH, D_STATE = 384, 2, 64, 64


def make_inputs(frames):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    x, z = (normal(1, frames, SPACE, HEADS, WIDTH) for _ in range(2))
    B, C = (normal(1, frames, SPACE, 1, D_STATE) for _ in range(2))
    A, D, dt_bias = -normal(HEADS).exp(), normal(HEADS), normal(HEADS)
    return [x, normal(1, frames, SPACE, HEADS), A, B, C, D, z, dt_bias]


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize("frames", [16, 17, 33, 65])
def bench_ssd_scan(measure, frames, direction, backend):
    leaves = [tensor.requires_grad_(direction == "both") for tensor in make_inputs(frames)]
    wanted = ssd_scan(*leaves, backend="reference")
    torch.testing.assert_close(ssd_scan(*leaves, backend=backend), wanted, atol=1e-3, rtol=1e-3)
    cotangent = torch.ones_like(wanted)

    def run():
        y = ssd_scan(*leaves, backend=backend)
        if direction == "both":
            torch.autograd.grad(y, leaves, cotangent)

    measure(f"ssd_scan F={frames} {direction}", run, frames=frames, backend=backend)
