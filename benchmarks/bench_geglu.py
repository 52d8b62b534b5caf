"""The gated GELU in one pass against torch's chunk, gelu and product."""

import pytest
import torch

from unianimate_kernels import geglu


@pytest.mark.parametrize("method", ["native", "reference"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def bench_geglu(measure, backward, method):
    x = torch.randn(6144, 2560, requires_grad=backward)
    out = geglu(x, backend=method)
    torch.testing.assert_close(out, geglu(x, backend="reference"))
    grad = torch.randn_like(out)

    def run():
        if backward:
            return torch.autograd.grad(out, x, grad, retain_graph=True)
        return geglu(x, backend=method)

    measure(f"geglu {'backward' if backward else 'forward'}", run, method=method)
