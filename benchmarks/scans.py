"""What the benchmarks of the scans share."""

import torch
from torch.nn.functional import silu, softplus

from benchmarks.roofline import Work

D_STATE = 16


def scan_inputs(shape, dtype, device, *, geometric=False):
    """Return x, dt, A, B, C, D, z, dt_bias of `selective_scan`."""
    size = (shape.batch, shape.frames, shape.space)

    def normal(*size, dtype=dtype):
        return torch.randn(*size, device=device, dtype=dtype)

    x, dt, z = (normal(*size, shape.channels) for _ in range(3))
    B, C = (normal(*size, D_STATE) for _ in range(2))
    states = torch.arange(1.0, D_STATE + 1, device=device)
    rates = states[:1].expand(shape.channels) if geometric else states.repeat(shape.channels, 1)
    D, dt_bias = (normal(shape.channels, dtype=torch.float32) for _ in range(2))
    return [x, dt - 2, -rates.contiguous(), B, C, D, z, dt_bias / 10]


def materialising_rows(x, dt, A, B, C, D, z, dt_bias):
    """Scan as the reference of mamba-ssm does: all decays and updates in memory first.

    x, dt, z are (batch, width, frames), B and C (batch, states, frames). It computes in float32.
    """
    dtype = x.dtype
    x, dt, B, C, z = (t.float() for t in (x, dt, B, C, z))
    delta = softplus(dt + dt_bias[:, None])
    decays = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    updates = torch.einsum("bdl,bnl,bdl->bdln", delta, B, x)
    state, outputs = torch.zeros_like(updates[:, :, 0]), []
    for frame in range(x.shape[-1]):
        state = decays[:, :, frame] * state + updates[:, :, frame]
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, :, frame]))
    return ((torch.stack(outputs, dim=-1) + D[:, None] * x) * silu(z)).to(dtype)


def materialising(x, dt, A, B, C, D, z, dt_bias):
    """Do the same for a video, with the rearranging copies that its layout needs."""
    batch, space = x.shape[0], x.shape[2]
    x, dt, B, C, z = (t.transpose(1, 2).flatten(0, 1).mT.contiguous() for t in (x, dt, B, C, z))
    y = materialising_rows(x, dt, A, B, C, D, z, dt_bias)
    return y.mT.unflatten(0, (batch, space)).transpose(1, 2)


def scan_work(shape, itemsize, backward, *, geometric=False, directions=1):
    """Return the least work of `directions` scans, x, dt and z being shared by them.

    A state and frame takes four instructions forward, and 13 more backward, of two flops at most;
    a number softplus and the gate's sigmoid besides the decays.
    """
    numbers, decays = shape.numbers, 1 if geometric else D_STATE
    projections = directions * 2 * D_STATE * shape.numbers // shape.channels
    tensors = 4 + (4 + 3 if backward else 0)
    return Work(
        itemsize * (tensors * numbers + (3 if backward else 1) * projections),
        directions * 2 * ((17 if backward else 4) * D_STATE + 8) * numbers,
        (2 if backward else 1) * (directions * (decays + 2) + 1) * numbers,
    )
