"""TemporalMamba: the frames mixed by a selective state space, both ways in time."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unianimate.blocks._layout import (
    channels_last,
    from_frames,
    from_locations,
    to_frames,
    to_locations,
)
from unianimate.blocks.mamba import (
    CausalConv,
    MambaState,
    ScanParameters,
    check_streaming,
    per_direction,
)
from unianimate.blocks.norm import GroupNorm
from unianimate.blocks.resnet import zero_init
from unianimate_kernels import bidirectional_selective_scan, selective_scan

Decay = Literal["free", "geometric"]


class TemporalMamba(nn.Module):
    """Mix the frames by Mamba's selective scan, at every location (arXiv 2312.00752).

    With u = GroupNorm(x) over the clip, ``value, gate = in_proj(u)``::

        v = silu(conv(value)),  v' = silu(conv'(value))      v sees the past, v' the future
        dt, B, C = x_proj(v)                                 and dt', B', C' = x_proj'(v')
        y = x + out_proj((scan(v, dt, A, B, C) + scan'(v', dt', A', B', C')) * silu(gate))

    `out_proj` starts at zero. Both directions are one op (Vision Mamba, arXiv 2401.09417).

    A block with ``bidirectional=False`` streams: carried state makes clip after clip equal to one
    long clip. Its norm therefore takes the statistics of each frame.

    Args:
        dim: channels, a multiple of 32.
        d_state: states a channel.
        d_conv: frames that the convolution sees.
        expand: inner width over `dim`.
        bidirectional: scan both ways.
        share_dynamics: one dt and one A for both directions, so that they share the exponentials;
            dt is made of the frame itself. B, C and the convolutions stay their own.
        decay: "free" learns every decay rate; "geometric" one rate r a channel, state n decaying
            by r * (n + 1), which takes one exponential instead of `d_state`.
    """

    def __init__(
        self,
        dim: int,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        bidirectional: bool = True,
        share_dynamics: bool = False,
        decay: Decay = "free",
    ) -> None:
        super().__init__()
        if decay not in ("free", "geometric"):
            raise ValueError(f"TemporalMamba: decay must be 'free' or 'geometric', got {decay!r}")
        if share_dynamics and not bidirectional:
            raise ValueError("TemporalMamba: share_dynamics needs bidirectional=True")
        width, rank = expand * dim, math.ceil(dim / 16)
        self.dim, self.width, self.d_state = dim, width, d_state
        self.dt_rank = 0 if share_dynamics else rank
        self.bidirectional, self.share_dynamics, self.decay = bidirectional, share_dynamics, decay

        def step() -> nn.Linear:
            linear = nn.Linear(rank, width, bias=False)  # its bias is dt_bias, added in the scan
            nn.init.uniform_(linear.weight, -(rank**-0.5), rank**-0.5)
            return linear

        def dynamics() -> ScanParameters:
            rates = torch.arange(1, d_state + 1, dtype=torch.float32).repeat(width, 1)
            return ScanParameters(width, rates if decay == "free" else rates[:, 0])

        def conv() -> CausalConv:
            return CausalConv(width, d_conv)

        def projection() -> nn.Linear:
            return nn.Linear(width, self.dt_rank + 2 * d_state, bias=False)

        own = bidirectional and not share_dynamics
        self.norm = GroupNorm(dim, eps=1e-6, activation=None)
        self.in_proj = nn.Linear(dim, 2 * width, bias=False)
        self.conv, self.conv_reverse = per_direction(bidirectional, conv)
        self.x_proj, self.x_proj_reverse = per_direction(bidirectional, projection)
        self.dt_down = nn.Linear(width, rank, bias=False) if share_dynamics else None
        self.dt_proj, self.dt_proj_reverse = per_direction(own, step)
        self.scan, self.scan_reverse = per_direction(own, dynamics)
        self.out_proj = nn.Linear(width, dim, bias=False)
        zero_init(self.out_proj)

    def forward(
        self, x: Tensor, *, state: MambaState | None = None, return_state: bool = False
    ) -> Any:
        """Mix the frames of a clip.

        Args:
            x: (B, C, F, H, W).
            state: what `return_state` gave for the clip before; None is the beginning.
            return_state: also return the state behind this clip.

        Returns:
            (B, C, F, H, W), or that and a `MambaState`.

        Raises:
            ValueError: state is asked of a bidirectional block.
        """
        check_streaming("TemporalMamba", self.bidirectional, return_state or state is not None)
        x = channels_last(x)
        value, gate = self.in_proj(to_locations(self._normalise(x))).chunk(2, dim=-1)
        if self.bidirectional:
            mixed, final = self._both_ways(value, gate), None
        else:
            mixed, final = self._onward(value, gate, state)
        y = x + from_locations(self.out_proj(mixed), *x.shape[3:])
        return (y, final) if return_state else y

    def _normalise(self, x: Tensor) -> Tensor:
        if self.bidirectional:
            return self.norm(x)
        return from_frames(self.norm(to_frames(x)), x.shape[0])

    def _split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dt, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return dt, B, C

    def _both_ways(self, value: Tensor, gate: Tensor) -> Tensor:
        v, v_reverse = self.conv(value), self.conv_reverse(value, reverse=True)
        dt, B, C = self._split(self.x_proj(v))
        dt_r, B_r, C_r = self._split(self.x_proj_reverse(v_reverse))
        A, D, dt_bias = self.scan(v)
        if self.dt_down is not None:
            step = self.dt_proj(self.dt_down(value))
            own: dict[str, Any] = {}
        else:
            step = self.dt_proj(dt)
            A_r, D_r, dt_bias_r = self.scan_reverse(v)
            own = {
                "dt_reverse": self.dt_proj_reverse(dt_r),
                "A_reverse": A_r,
                "D_reverse": D_r,
                "dt_bias_reverse": dt_bias_r,
            }
        return bidirectional_selective_scan(
            v, step, A, B, C, D, gate, dt_bias,
            x_reverse=v_reverse, B_reverse=B_r, C_reverse=C_r, **own,
        )  # fmt: skip

    def _onward(
        self, value: Tensor, gate: Tensor, state: MambaState | None
    ) -> tuple[Tensor, MambaState]:
        conv_state, scan_state = (None, None) if state is None else state
        v, conv_state = self.conv.stream(value, conv_state)
        dt, B, C = self._split(self.x_proj(v))
        A, D, dt_bias = self.scan(v)
        mixed, scan_state = selective_scan(
            v, self.dt_proj(dt), A, B, C, D, gate, dt_bias,
            initial_state=scan_state, return_final_state=True,
        )  # fmt: skip
        return mixed, MambaState(conv_state, scan_state)

    def extra_repr(self) -> str:
        """Tell the sizes."""
        return (
            f"{self.dim}, d_state={self.d_state}, bidirectional={self.bidirectional}, "
            f"share_dynamics={self.share_dynamics}, decay={self.decay!r}"
        )
