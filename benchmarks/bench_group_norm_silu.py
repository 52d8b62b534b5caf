"""Group norm + SiLU on channels-last frames and clips: native, the reference, torch's two ops."""

import pytest
import torch
from torch.nn.functional import group_norm, silu

from unianimate_kernels import group_norm_silu


def two_ops(x, weight, bias):
    return silu(group_norm(x, 32, weight, bias))


FORMS = {
    "native": lambda x, weight, bias: group_norm_silu(x, 32, weight, bias, backend="native"),
    "reference": lambda x, weight, bias: group_norm_silu(x, 32, weight, bias, backend="reference"),
    "torch": two_ops,
}


# the second shape is one clip: its statistics span all frames, and the threads share the clip
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(34, 320, 48, 32), (1, 320, 17, 24, 16)], ids=str)
def bench_group_norm_silu(measure, shape, dtype, direction, form):
    x = torch.randn(shape).movedim(1, -1).contiguous().movedim(-1, 1)
    tensors = (x, torch.randn(shape[1]), torch.randn(shape[1]))
    leaves = [tensor.to(dtype).requires_grad_() for tensor in tensors]
    call, wanted = FORMS[form], group_norm_silu(*leaves[:1], 32, *leaves[1:], backend="reference")
    limit = 1e-3 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(call(*leaves), wanted, atol=limit, rtol=limit)
    cotangent = torch.randn_like(wanted)

    def run():
        y = call(*leaves)
        if direction == "both":
            torch.autograd.grad(y, leaves, cotangent)

    group = f"group_norm_silu {shape} {dtype} {direction}"
    measure(group, run, rounds=7, warmup=2, backend=form, dtype=dtype, shape=shape)
