"""The 3x1x1 convolution: ours, a (3, 1) conv2d on a view, and torch's conv3d."""

import pytest
import torch
from torch.nn.functional import conv2d, conv3d

from unianimate_kernels import temporal_conv


def on_a_view(x, weight, bias):
    y = conv2d(x.flatten(3), weight.squeeze(-1), bias, padding=(1, 0))
    return y.unflatten(3, x.shape[3:])


FORMS = {
    "native": lambda *tensors: temporal_conv(*tensors, backend="native"),
    "conv2d": on_a_view,
    "conv3d": lambda *tensors: conv3d(*tensors, padding=(1, 0, 0)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(320, 17, 48, 32), (160, 17, 16, 12), (64, 17, 32, 32)], ids=str)
def bench_temporal_conv(measure, shape, dtype, direction, form):
    x = torch.randn(1, *shape).contiguous(memory_format=torch.channels_last_3d).to(dtype)
    weight = torch.randn(shape[0], shape[0], 3, 1, 1).div((3 * shape[0]) ** 0.5).to(dtype)
    leaves = [tensor.requires_grad_() for tensor in (x, weight, torch.randn(shape[0]).to(dtype))]
    call, wanted = FORMS[form], temporal_conv(*leaves, backend="reference")
    torch.testing.assert_close(call(*leaves), wanted, atol=4e-2, rtol=4e-2)

    def run():
        y = call(*leaves)
        if direction == "both":
            torch.autograd.grad(y, leaves, torch.ones_like(y))

    group = f"temporal_conv {shape} {dtype} {direction}"
    measure(group, run, rounds=7, warmup=2, backend=form, dtype=dtype, shape=shape)
