"""The causal-conv1d package (`causal_conv1d_fn`), used only when named."""

from torch import Tensor

from .._dispatch import BackendError

_TAPS = (2, 3, 4)


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    reverse: bool,
    initial_state: Tensor | None,
) -> Tensor:
    """Return the output, by a copy into rows of (B*S, F, D) and back.

    Raises:
        BackendError: taps or a width it does not take, or an installed package that does not load.
    """
    refused = "causal_conv1d: backend 'causal_conv1d' cannot serve this call"
    try:
        from causal_conv1d import causal_conv1d_fn
    except ImportError as error:
        raise BackendError(f"{refused}: the installed package does not load ({error})") from error
    if weight.shape[1] not in _TAPS:
        raise BackendError(f"{refused}: it takes 2, 3 or 4 taps, got {weight.shape[1]}")
    if x.shape[3] % 8:
        raise BackendError(f"{refused}: it takes a multiple of 8 channels, got {x.shape[3]}")
    batch, frames, space, width = x.shape
    rows = (x.flip(1) if reverse else x).transpose(1, 2).reshape(batch * space, frames, width)
    state = None
    if initial_state is not None:
        ordered = initial_state.flip(2) if reverse else initial_state
        # their channels-last kernel wants the states channels-last too
        state = ordered.to(x.dtype).flatten(0, 1).contiguous().transpose(1, 2)
    y = causal_conv1d_fn(
        rows.transpose(1, 2), weight, bias, initial_states=state, activation=activation
    )
    y = y.transpose(1, 2).unflatten(0, (batch, space)).transpose(1, 2)
    return y.flip(1) if reverse else y
