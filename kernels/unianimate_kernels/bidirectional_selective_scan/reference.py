"""Both directions of the selective scan in plain torch: two scans, one sum, one gate."""

from torch import Tensor
from torch.nn.functional import silu

from ..selective_scan.reference import scan

Dynamics = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]


def forward(onward: Dynamics, backward: Dynamics, z: Tensor | None, dt_softplus: bool) -> Tensor:
    """Return (B, F, S, D); ``onward`` and ``backward`` are x, dt, A, B, C, D, dt_bias."""
    y = scan(*onward, dt_softplus, reverse=False)[0]
    y = y + scan(*backward, dt_softplus, reverse=True)[0]
    if z is not None:
        y = y * silu(z.to(y.dtype))
    return y.to(onward[0].dtype)
