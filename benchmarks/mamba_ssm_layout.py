"""The same mixer on mamba-ssm's kernels: what `TemporalMamba` is measured against on a GPU.

Sequences of frames as rows (B*H*W, width, F), the second direction on a flipped copy with weights
of its own, as Vision Mamba (arXiv 2401.09417) runs those kernels.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from benchmarks.scans import materialising_rows
from unianimate.blocks import TemporalMamba
from unianimate_kernels import available_backends

# both are needed; without them torch's own ops stand in, so that the layout can be checked
HAS_PEERS = (
    available_backends("selective_scan")["mamba_ssm"] is None
    and available_backends("causal_conv1d")["causal_conv1d"] is None
)


def _conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if HAS_PEERS:
        from causal_conv1d import causal_conv1d_fn

        return causal_conv1d_fn(x, weight, bias, activation="silu")
    taps = weight.shape[1]
    y = F.conv1d(x, weight[:, None], bias, padding=taps - 1, groups=weight.shape[0])
    return F.silu(y[..., : 1 - taps])


def _scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, bias: Tensor
):
    if HAS_PEERS:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        return selective_scan_fn(x, dt, A, B, C, D, z, bias, delta_softplus=True)
    return materialising_rows(x, dt, A, B, C, D, z, bias)


class MambaSsmLayout(TemporalMamba):
    """A bidirectional `TemporalMamba` with dynamics of its own for each direction."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[3:]
        h = F.group_norm(x, self.norm.num_groups, self.norm.weight, self.norm.bias, self.norm.eps)
        rows = rearrange(h, "b c f h w -> (b h w) f c").contiguous()
        xz = rearrange(self.in_proj(rows), "n f d -> n d f").contiguous()
        y = self._branch(xz, "") + self._branch(xz.flip(-1), "_reverse").flip(-1)
        out = self.out_proj(rearrange(y, "n d f -> n f d"))
        return x + rearrange(out, "(b h w) f c -> b c f h w", h=height, w=width)

    def _branch(self, xz: Tensor, suffix: str) -> Tensor:
        conv, x_proj, dt_proj, scan = (
            getattr(self, name + suffix) for name in ("conv", "x_proj", "dt_proj", "scan")
        )
        value, gate = xz.chunk(2, dim=1)
        v = _conv(value, conv.weight, conv.bias)
        n, _, f = v.shape
        projected = x_proj(rearrange(v, "n d f -> (n f) d"))
        dt, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        dt = rearrange(dt_proj.weight @ dt.t(), "d (n f) -> n d f", n=n)
        B, C = (rearrange(t, "(n f) s -> n s f", f=f).contiguous() for t in (B, C))
        A, D, dt_bias = scan(v)
        return _scan(v, dt, A, B, C, D, gate, dt_bias)


def randomise(module: torch.nn.Module) -> None:
    """Give every weight that starts at zero a value, so that agreement means something."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
