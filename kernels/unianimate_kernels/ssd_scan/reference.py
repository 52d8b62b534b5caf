"""The Mamba-2 scan in plain torch: the specification of every other backend.

The chunked form of Mamba-2 (arXiv 2405.21060, section 6): inside a chunk of frames a matrix
product with a decay mask, between chunks the recurrence of the state. float32 accumulation
(float64 for float64 input); autograd gives the gradients.
"""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from ..selective_scan.reference import accumulator

DEFAULT_CHUNK = 32


def chunk_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, wants_state: bool
) -> tuple[Tensor, Tensor]:
    """Return the output of one chunk of frames and, if it is wanted, the state behind it.

    x (B,T,S,H,P), delta (B,T,S,H), A (H,), B and C (B,T,S,H,N), state (B,S,H,P,N).
    """
    log_decay = (delta * A).cumsum(dim=1)
    # mask[i, j] = product of the decays of frames j+1 .. i, for i >= j; the exponent above the
    # diagonal is replaced before exp, where it would overflow
    frames = x.shape[1]
    span = log_decay[:, :, None] - log_decay[:, None, :]
    later = torch.ones(frames, frames, dtype=torch.bool, device=x.device).tril()
    mask = span.masked_fill(~later[:, :, None, None], float("-inf")).exp()
    weights = torch.einsum("bishn,bjshn->bijsh", C, B) * mask * delta[:, None]
    y = torch.einsum("bijsh,bjshp->bishp", weights, x)
    y = y + torch.einsum("bishn,bshpn->bishp", C, state) * log_decay.exp()[..., None]
    if not wants_state:
        return y, state
    to_end = (log_decay[:, -1:] - log_decay).exp() * delta
    update = torch.einsum("bjshp,bjshn->bshpn", x * to_end[..., None], B)
    return y, state * log_decay[:, -1, :, :, None, None].exp() + update


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
    """Return the gated output in x's dtype and, if it is asked for, the final state."""
    dtype = accumulator(x)
    heads = x.shape[3]
    xs, delta = x.to(dtype), dt.to(dtype)
    if dt_bias is not None:
        delta = delta + dt_bias
    if dt_softplus:
        delta = softplus(delta)
    per_head = [m.to(dtype).repeat_interleave(heads // m.shape[3], dim=3) for m in (B, C)]
    sequence = [xs, delta, *per_head]
    if reverse:
        sequence = [t.flip(1) for t in sequence]
    state = initial_state
    if state is None:
        state = xs.new_zeros(x.shape[0], x.shape[2], heads, x.shape[4], B.shape[-1])
    outputs: list[Tensor] = []
    chunks = list(zip(*(t.split(chunk_size or DEFAULT_CHUNK, dim=1) for t in sequence)))
    for xc, dc, Bc, Cc in chunks:
        wants_state = return_final_state or len(outputs) + 1 < len(chunks)
        y, state = chunk_scan(xc, dc, A, Bc, Cc, state, wants_state)
        outputs.append(y)
    y = torch.cat(outputs, dim=1)
    if reverse:
        y = y.flip(1)
    if D is not None:
        y = y + D[:, None] * xs
    if z is not None:
        y = y * silu(z.to(dtype))
    return y.to(x.dtype), state
