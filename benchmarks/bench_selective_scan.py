"""The selective scans at 384 locations, 16 frames, 128 channels and 16 states."""

import pytest
import torch
from torch.nn.functional import silu, softplus

from unianimate_kernels import bidirectional_selective_scan, selective_scan

FRAMES, SPACE, WIDTH, D_STATE = 16, 384, 128, 16


def make_inputs(decay):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    x, dt, z = (normal(1, FRAMES, SPACE, WIDTH) for _ in range(3))
    B, C = (normal(1, FRAMES, SPACE, D_STATE) for _ in range(2))
    states = torch.arange(1.0, D_STATE + 1)
    A = -torch.ones(WIDTH) if decay == "geometric" else -states.repeat(WIDTH, 1)
    return [x, dt - 2, A, B, C, normal(WIDTH), z, normal(WIDTH) / 10]


def materialising(x, dt, A, B, C, D, z, dt_bias):
    """Scan in mamba-ssm's layout (batch, width, frames), all decays and updates in memory first."""
    x, dt, B, C, z = (t.transpose(1, 2).flatten(0, 1).mT.contiguous() for t in (x, dt, B, C, z))
    delta = softplus(dt + dt_bias[:, None])
    decays = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    updates = torch.einsum("bdl,bnl,bdl->bdln", delta, B, x)
    state, outputs = torch.zeros_like(updates[:, :, 0]), []
    for frame in range(x.shape[-1]):
        state = decays[:, :, frame] * state + updates[:, :, frame]
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, :, frame]))
    y = (torch.stack(outputs, dim=-1) + D[:, None] * x) * silu(z)
    return y.mT.unflatten(0, (1, SPACE)).transpose(1, 2)


@pytest.mark.parametrize("form", ["native", "reference", "materialising"])
@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize("decay", ["free", "geometric"])
@pytest.mark.parametrize("op", [selective_scan, bidirectional_selective_scan])
def bench_selective_scan(measure, op, decay, direction, form):
    if form == "materialising" and (op is not selective_scan or decay == "geometric"):
        pytest.skip("mamba-ssm has free decays in one direction")
    leaves = [tensor.requires_grad_(direction == "both") for tensor in make_inputs(decay)]

    def scan():
        return materialising(*leaves) if form == "materialising" else op(*leaves, backend=form)

    wanted = op(*leaves, backend="reference")
    torch.testing.assert_close(scan(), wanted, atol=1e-4, rtol=1e-4)
    cotangent = torch.ones_like(wanted)

    def run():
        y = scan()
        if direction == "both":
            torch.autograd.grad(y, leaves, cotangent)

    group = f"{op.__name__} {direction}"
    rounds = 40 if form == "native" else 10
    measure(group, run, rounds=rounds, backend=form, decay=decay, shape=tuple(wanted.shape))
