"""mamba-ssm's CUDA kernel (`selective_scan_fn`), used only when named."""

import torch
from torch import Tensor

from .._dispatch import BackendError
from .reference import decay_rates

# compiled into its kernel
_MOST_STATES = 256


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
    initial_state: Tensor | None,
    return_final_state: bool,
) -> tuple[Tensor, Tensor]:
    """Return the output and the final state, by copies of everything into (B*S, ..., F).

    Geometric decays are spelled out: they save nothing here.

    Raises:
        BackendError: an initial state, a final state that gradients should flow through, or more
            than 256 states.
    """
    limits = {
        "it takes no initial_state": initial_state is not None,
        "it computes no gradient of the final state: call it under torch.no_grad()": (
            return_final_state
            and torch.is_grad_enabled()
            and any(t is not None and t.requires_grad for t in (x, dt, A, B, C, dt_bias))
        ),
        f"it takes at most {_MOST_STATES} states, got {B.shape[-1]}": B.shape[-1] > _MOST_STATES,
    }
    for limit, hit in limits.items():
        if hit:
            raise BackendError(
                f"selective_scan: backend 'mamba_ssm' cannot serve this call: {limit}"
            )
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError as error:
        raise BackendError(
            f"selective_scan: backend 'mamba_ssm' cannot serve this call: the installed mamba-ssm "
            f"does not load its kernel ({error}); it must be built for this torch"
        ) from error
    batch, _, space = x.shape[:3]

    def rows(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        tensor = tensor.flip(1) if reverse else tensor
        return tensor.permute(0, 2, 3, 1).flatten(0, 1).contiguous()

    y, state = selective_scan_fn(
        *(rows(x), rows(dt), decay_rates(A, B.shape[-1]), rows(B), rows(C), D, rows(z), dt_bias),
        delta_softplus=dt_softplus,
        return_last_state=True,
    )
    y = y.unflatten(0, (batch, space)).permute(0, 3, 1, 2)
    return (y.flip(1) if reverse else y), state.unflatten(0, (batch, space))
