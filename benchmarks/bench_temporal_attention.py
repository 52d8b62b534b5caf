"""Attention over frames, read in place, against SDPA on views and on rearranged copies."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from unianimate_kernels import temporal_attention


def rearranged(q, k, v):
    """Do as the official code: b f s h d -> (b s h) f d copies, and back."""
    batch, frames, space, heads, dim = q.shape
    rows = (t.permute(0, 2, 3, 1, 4).reshape(-1, frames, dim).contiguous() for t in (q, k, v))
    out = scaled_dot_product_attention(*rows).view(batch, space, heads, frames, dim)
    return out.permute(0, 3, 1, 2, 4).contiguous()


def forward(method, *tensors):
    with torch.no_grad():
        if method == "rearranged":
            return rearranged(*tensors)
        return temporal_attention(*tensors, backend=method)


@pytest.mark.parametrize("method", ["native", "reference", "rearranged"])
@pytest.mark.parametrize("shape", [(17, 1536, 5), (33, 1536, 5), (65, 384, 10), (257, 96, 20)])
def bench_forward(measure, shape, method):
    frames, space, heads = shape
    tensors = torch.randn(1, frames, space, 3, heads, 64).unbind(3)
    torch.testing.assert_close(forward(method, *tensors), forward("reference", *tensors))
    group = f"temporal_attention {shape}"
    measure(group, lambda: forward(method, *tensors), rounds=7, warmup=2, method=method)


@pytest.mark.parametrize("method", ["native", "reference"])
def bench_backward(measure, method):
    tensors = [t.requires_grad_() for t in torch.randn(1, 17, 1536, 3, 5, 64).unbind(3)]
    out = temporal_attention(*tensors, backend=method)
    torch.testing.assert_close(out, temporal_attention(*tensors, backend="reference"))
    run = lambda: torch.autograd.grad(out, tensors, out.detach(), retain_graph=True)  # noqa: E731
    measure("temporal_attention backward", run, rounds=7, warmup=2, method=method)
