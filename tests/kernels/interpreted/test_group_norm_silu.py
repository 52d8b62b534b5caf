from typing import Any

import gates
import pytest
import torch
from torch import Tensor

from unianimate_kernels import BackendError, group_norm_silu
from unianimate_kernels.group_norm_silu import layout

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def make_x(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(*shape, generator=generator, dtype=torch.float64) + 3
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def make_inputs(x: Tensor, num_groups: int, *, embedding: bool = True) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    channels = x.shape[1]
    inputs = {"x": x, "num_groups": num_groups, "weight": random(channels)}
    inputs["bias"] = random(channels)
    return {**inputs, "embedding": random(*x.shape[:2])} if embedding else inputs


def check(x: Tensor, num_groups: int, dtype: torch.dtype, **options: Any) -> None:
    inputs = make_inputs(x, num_groups, embedding=options.pop("embedding", True))
    # the interpreter truncates where it stores bfloat16: one more rounding error
    slack = 2.0 if dtype == torch.bfloat16 else 1.0
    gates.check(group_norm_silu, inputs, backend="triton", dtype=dtype, slack=slack, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "num_groups", "activation"),
    [((1, 80, 5, 7), 8, "silu"), ((3, 33, 4, 3), 3, None), ((2, 10, 33), 5, "silu")],
)
def test_triton_meets_the_gate(shape, num_groups, activation, dtype):
    check(make_x(*shape), num_groups, dtype, activation=activation, embedding=len(shape) == 3)


def test_many_blocks_are_combined(monkeypatch):
    monkeypatch.setattr(layout, "_BLOCK", 100)
    check(make_x(1, 34, 9, 2), 2, torch.float32)


def test_the_digits_of_a_small_variance_are_kept():
    check(make_x(1, 8, 10, 10) + 1e4, 2, torch.float32)


@pytest.mark.parametrize(
    "view", [lambda x: x[:, 3:15], lambda x: x[:, :, ::2], lambda x: x[:, :, 1:4, 1:3, 2:5]]
)
def test_views_are_read_in_place(view):
    check(view(make_x(2, 24, 6, 4, 5)), 3, torch.float32)


def test_planes_are_refused():
    x = torch.zeros(1, 4, 3, 3)
    with pytest.raises(BackendError, match="takes channels-last memory"):
        group_norm_silu(x, 2, torch.ones(4), torch.zeros(4), backend="triton")


def test_opcheck():
    inputs = make_inputs(make_x(2, 6, 3, 2).float(), 3)
    weight, bias, embedding = (inputs[k].float() for k in ("weight", "bias", "embedding"))
    x = inputs["x"].requires_grad_()
    group_norm_silu(x, 3, weight, bias, backend="triton")
    torch.library.opcheck(
        torch.ops.unianimate.group_norm_silu_triton, (x, 3, weight, bias, 1e-5, embedding, True)
    )
