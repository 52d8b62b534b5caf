"""TemporalMamba2: the frames mixed by Mamba-2's scan, both ways in time."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from unianimate.blocks._layout import (
    channels_last,
    from_frames,
    from_locations,
    to_frames,
    to_locations,
)
from unianimate.blocks._plain import plain_parameters
from unianimate.blocks.mamba import (
    CausalConv,
    MambaState,
    ScanParameters,
    check_streaming,
    per_direction,
)
from unianimate.blocks.norm import GroupNorm
from unianimate.blocks.resnet import zero_init
from unianimate_kernels import rms_norm, ssd_scan

_EPS = 1e-5


class TemporalMamba2(nn.Module):
    """Mix the frames by Mamba-2's state space duality, at every location (arXiv 2405.21060).

    With u = GroupNorm(x) over the clip, ``gate, BC, value, BC', dt, dt' = in_proj(u)``::

        B, C, v = silu(conv(BC, value)),  v', B', C' = silu(conv'(value, BC'))
        h = (ssd(v, dt, A, B, C) + ssd'(v', dt', A', B', C')) * silu(gate)
        y = x + out_proj(RMSNorm(h))

    ssd' and conv' run backwards in time, as in `TemporalMamba`. A head of `head_dim` channels has
    one decay. `out_proj` starts at zero.

    A block with ``bidirectional=False`` streams: carried state makes clip after clip equal to one
    long clip. Its norm therefore takes the statistics of each frame.

    Args:
        dim: channels, a multiple of 32.
        d_state: states a channel.
        head_dim: channels a head; divides expand * dim.
        d_conv: frames that the convolution sees.
        expand: inner width over `dim`.
        bidirectional: scan both ways.
    """

    def __init__(
        self,
        dim: int,
        *,
        d_state: int = 64,
        head_dim: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        width = expand * dim
        if width % head_dim:
            raise ValueError(
                f"TemporalMamba2: expand * dim ({width}) must be a multiple of head_dim, "
                f"got {head_dim}"
            )
        heads, directions = width // head_dim, 2 if bidirectional else 1
        self.dim, self.d_state, self.head_dim, self.num_heads = dim, d_state, head_dim, heads
        self.bidirectional = bidirectional
        # columns of in_proj; either direction's convolution reads neighbouring ones
        self._columns = [width, 2 * d_state, width, 2 * d_state * (directions - 1)]
        self._columns += [heads] * directions

        def conv() -> CausalConv:
            return CausalConv(width + 2 * d_state, d_conv)

        def dynamics() -> ScanParameters:
            return ScanParameters(heads, torch.empty(heads).uniform_(1, 16))

        self.norm = GroupNorm(dim, eps=1e-6, activation=None)
        self.in_proj = nn.Linear(dim, sum(self._columns), bias=False)
        self.conv, self.conv_reverse = per_direction(bidirectional, conv)
        self.scan, self.scan_reverse = per_direction(bidirectional, dynamics)
        self.norm_out = nn.RMSNorm(width, eps=_EPS)
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
        check_streaming("TemporalMamba2", self.bidirectional, return_state or state is not None)
        x = channels_last(x)
        projected = self._project(to_locations(self._normalise(x)))
        gate, steps = projected[..., : self._columns[0]], self._steps(projected)
        gate = self._heads(gate)
        bc, value, bc_reverse = self._columns[1:4]
        onward = projected.narrow(-1, self._columns[0], bc + value)
        if self.bidirectional:
            backward = projected.narrow(-1, self._columns[0] + bc, value + bc_reverse)
            parts = [
                self._onward(self.conv(onward), gate, steps[0]),
                self._backward(backward, gate, steps[1]),
            ]
            final = None
        else:
            conv_state, scan_state = (None, None) if state is None else state
            v, conv_state = self.conv.stream(onward, conv_state)
            # a state is asked for only where it is wanted: it costs a scan its fastest form
            mixed = self._onward(
                v, gate, steps[0], initial_state=scan_state, return_final_state=return_state
            )
            final = None
            if return_state:
                mixed, scan_state = mixed
                final = MambaState(conv_state, scan_state)
            parts = [mixed]
        h = self.out_proj(self._normalise_sum(parts))
        y = x + from_locations(h, *x.shape[3:])
        return (y, final) if return_state else y

    def _normalise(self, x: Tensor) -> Tensor:
        if self.bidirectional:
            return self.norm(x)
        return from_frames(self.norm(to_frames(x)), x.shape[0])

    def _normalise_sum(self, parts: list[Tensor]) -> Tensor:
        """Return norm_out of a sum of one or two; in one pass where no gradient is wanted.

        Parts are taken out of the list, so that none outlives the sum.
        """
        first = parts.pop(0).flatten(3)
        if not torch.is_grad_enabled():
            weights = plain_parameters((nn.RMSNorm,), self.norm_out)
            if weights is not None and weights[0].dtype == first.dtype:
                added = parts.pop().flatten(3) if parts else None
                return rms_norm(first, weights[0], _EPS, added=added)
        if parts:
            first = first + parts.pop().flatten(3)
        return self.norm_out(first)

    def _project(self, rows: Tensor) -> Tensor:
        """Return in_proj of the rows; on a GPU with so many columns more as align the rows.

        Its tensor cores and the kernels that read the rows take 16 bytes at once of aligned ones;
        Triton sees it of strides that are multiples of 16.
        """
        missing = -sum(self._columns) % 16
        if (
            rows.device.type == "cpu"
            or not missing
            or plain_parameters((nn.Linear,), self.in_proj) is None
        ):
            return self.in_proj(rows)
        return linear(rows, pad(self.in_proj.weight, (0, 0, 0, missing)))

    def _steps(self, projected: Tensor) -> tuple[Tensor, ...]:
        steps = projected[..., sum(self._columns[:4]) : sum(self._columns)]
        return steps.split(self.num_heads, dim=-1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_dim))

    def _onward(self, convolved: Tensor, gate: Tensor, step: Tensor, **state: Any) -> Any:
        N = self.d_state
        B, C, v = convolved.split([N, N, convolved.shape[-1] - 2 * N], dim=-1)
        A, D, dt_bias = self.scan(v)
        return ssd_scan(
            self._heads(v), step, A, B.unsqueeze(3), C.unsqueeze(3), D, gate, dt_bias, **state
        )

    def _backward(self, columns: Tensor, gate: Tensor, step: Tensor) -> Any:
        N = self.d_state
        convolved = self.conv_reverse(columns, reverse=True)
        v, B, C = convolved.split([convolved.shape[-1] - 2 * N, N, N], dim=-1)
        A, D, dt_bias = self.scan_reverse(v)
        return ssd_scan(
            self._heads(v), step, A, B.unsqueeze(3), C.unsqueeze(3), D, gate, dt_bias, reverse=True
        )

    def extra_repr(self) -> str:
        """Tell the sizes."""
        return (
            f"{self.dim}, d_state={self.d_state}, num_heads={self.num_heads}, "
            f"head_dim={self.head_dim}, bidirectional={self.bidirectional}"
        )
