"""The CUDA code of group_norm_silu, run on the CPU: threads are fibers, see cuda_emulation."""

import cuda_emulation
import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unianimate_kernels import group_norm_silu
from unianimate_kernels.group_norm_silu import layout, native

pytestmark = pytest.mark.skipif(
    cuda_emulation.skip_reason() is not None, reason=str(cuda_emulation.skip_reason())
)

DTYPES = cuda_emulation.DTYPES


def make_inputs(x, num_groups, *, embedding=True):
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    channels = x.shape[1]
    inputs = {"x": x, "num_groups": num_groups, "weight": random(channels)}
    inputs["bias"] = random(channels)
    if embedding:
        inputs["embedding"] = random(*x.shape[:2])
    return inputs


def make_x(*shape):
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(*shape, generator=generator, dtype=torch.float64) + 3
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def check(x, num_groups, dtype, *, embedding=True, **options):
    inputs = make_inputs(x, num_groups, embedding=embedding)
    with cuda_emulation.emulated("group_norm_silu"):
        gates.check(group_norm_silu, inputs, backend="native", dtype=dtype, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["silu", None])
@pytest.mark.parametrize(
    ("shape", "num_groups"), [((1, 96, 9, 7), 32), ((3, 33, 5, 3), 3), ((2, 10, 3, 2, 5), 5)]
)
def test_cuda_meets_the_gate(shape, num_groups, activation, dtype):
    check(make_x(*shape), num_groups, dtype, activation=activation, embedding=activation is None)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(layout, "_BLOCK", 100)
    native._described.cache_clear()
    yield
    native._described.cache_clear()


def test_many_blocks_are_combined(small_blocks):
    check(make_x(2, 66, 17, 5), 6, torch.float32)


def test_the_digits_of_a_small_variance_are_kept():
    check(make_x(1, 8, 10, 10) + 1e4, 2, torch.float32)


@pytest.mark.parametrize(
    "view", [lambda x: x[:, 3:15], lambda x: x[:, :, ::2], lambda x: x[:, :, 1:4, 1:3, 2:5]]
)
def test_views_are_read_in_place(view):
    check(view(make_x(2, 24, 6, 4, 5)), 3, torch.float32)


@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 4),
    per_group=st.integers(2, 30),
    rows=st.integers(3, 40),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=8, deadline=None)
def test_drawn_shapes_meet_the_gate(batch, groups, per_group, rows, dtype):
    check(make_x(batch, groups * per_group, rows), groups, dtype)


def test_results_do_not_depend_on_the_order_of_threads():
    inputs = gates.cast(make_inputs(make_x(2, 36, 30), 4), torch.float32, frozenset())
    with cuda_emulation.emulated("group_norm_silu"):
        first, second = (gates.run(group_norm_silu, inputs, backend="native") for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
