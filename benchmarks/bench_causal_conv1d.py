"""The causal convolution: native, the reference, and torch's depthwise conv1d after rearranging."""

import pytest
import torch
from torch.nn.functional import conv1d, silu

from unianimate_kernels import causal_conv1d


def rearranged(x, weight, bias):
    rows = x.permute(0, 2, 3, 1).flatten(0, 1).contiguous()
    y = silu(conv1d(rows, weight[:, None], bias, padding=3, groups=weight.shape[0])[..., :-3])
    return y.unflatten(0, (x.shape[0], x.shape[2])).permute(0, 3, 1, 2).contiguous()


FORMS = {
    "native": lambda *tensors: causal_conv1d(*tensors, backend="native"),
    "reference": lambda *tensors: causal_conv1d(*tensors, backend="reference"),
    "conv1d rearranged": rearranged,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize("shape", [(1, 17, 1536, 640), (1, 33, 384, 320)], ids=str)
def bench_causal_conv1d(measure, shape, direction, form):
    tensors = (torch.randn(shape), torch.randn(shape[-1], 4), torch.randn(shape[-1]))
    leaves = [tensor.requires_grad_() for tensor in tensors]
    call, wanted = FORMS[form], causal_conv1d(*leaves, backend="reference")
    torch.testing.assert_close(call(*leaves), wanted, atol=1e-4, rtol=1e-4)

    def run():
        y = call(*leaves)
        if direction == "both":
            torch.autograd.grad(y, leaves, torch.ones_like(y))

    group = f"causal_conv1d {shape} {direction}"
    measure(group, run, rounds=7, warmup=2, backend=form, dtype=torch.float32, shape=shape)
