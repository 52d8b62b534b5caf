"""mamba-ssm's Triton kernels for Mamba-2 (`mamba_chunk_scan_combined`), used only when named."""

import torch
from torch import Tensor

from .._dispatch import BackendError

# what their tl.dot takes; longer ones only waste tiles at the lengths of a clip
_SHORTEST_CHUNK = 16


def forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    chunk_size: int | None,
    initial_state: Tensor | None,
    return_final_state: bool,
) -> tuple[Tensor, Tensor]:
    """Return the output and the final state, by a copy of everything into (B*S, F, ...).

    Raises:
        BackendError: a chunk_size that is no power of two of at least 16, or an installed
            mamba-ssm without Mamba-2.
    """
    try:
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    except ImportError as error:
        raise BackendError(
            f"ssd_scan: backend 'mamba_ssm' cannot serve this call: the installed mamba-ssm does "
            f"not load its Mamba-2 kernels ({error})"
        ) from error
    frames = x.shape[1]
    chunk = chunk_size or max(_SHORTEST_CHUNK, 1 << (frames - 1).bit_length())
    if chunk < _SHORTEST_CHUNK or chunk & (chunk - 1):
        raise BackendError(
            f"ssd_scan: backend 'mamba_ssm' cannot serve this call: it takes a chunk_size that is "
            f"a power of two and at least {_SHORTEST_CHUNK}, got {chunk}"
        )
    batch, _, space = x.shape[:3]

    def rows(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        tensor = tensor.flip(1) if reverse else tensor
        return tensor.transpose(1, 2).reshape(batch * space, frames, *tensor.shape[3:])

    with torch.autocast(x.device.type, enabled=False):
        y, state = mamba_chunk_scan_combined(
            *(rows(x), rows(dt), A, rows(B), rows(C)),
            chunk_size=chunk,
            D=D,
            z=rows(z),
            dt_bias=dt_bias,
            initial_states=None if initial_state is None else initial_state.flatten(0, 1),
            dt_softplus=dt_softplus,
            return_final_states=True,
        )
    y = y.unflatten(0, (batch, space)).transpose(1, 2)
    return (y.flip(1) if reverse else y), state.unflatten(0, (batch, space)).float()
