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


@pytest.fixture(autouse=True)
def blocks_of_a_gpu(monkeypatch):
    # the tensors of an emulation are on the CPU
    monkeypatch.setattr(layout, "blocks", layout.thread_blocks)
    native._described.cache_clear()
    yield
    native._described.cache_clear()


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


# widths of a thread's piece, tiles and rows at once: 8 channels of two bytes, 4 of four, 2 or 1
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("channels", "num_groups", "rows"),
    [
        (320, 32, 23),
        (640, 32, 9),
        (1280, 32, 5),
        (2560, 32, 7),
        (264, 8, 50),  # pieces of 8, the last tile or row of threads not full
        (36, 4, 100),
        (1028, 4, 3),
        (34, 17, 30),
        (1300, 1, 4),  # a group of more channels than the threads that fold it
        (33, 3, 40),
        (515, 5, 6),
        (2, 1, 700),
    ],
)
def test_every_width_meets_the_gate(channels, num_groups, rows, dtype):
    check(make_x(2, channels, rows), num_groups, dtype)


@pytest.mark.parametrize("rows", [1, 2])
def test_few_rows(rows):
    for dtype in DTYPES:
        check(make_x(3, 320, rows), 8, dtype, embedding=False)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(layout, "_THREAD_BLOCK", 100)
    monkeypatch.setattr(layout, "_THREAD_BLOCKS", 10**6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("channels", "num_groups"),
    [
        (64, 8),
        (66, 6),
        (8, 8),
        (9, 1),
    ],
)
def test_many_blocks_are_combined(channels, num_groups, dtype, small_blocks):
    x = make_x(2, channels, 37, 11)
    assert layout.blocks(x)[1] > 30
    check(x, num_groups, dtype, embedding=channels > num_groups)


def test_more_blocks_than_threads_that_fold_them(small_blocks):
    x = make_x(1, 12, 3001)
    assert layout.blocks(x)[1] > 350
    check(x, 6, torch.float32)


@pytest.mark.parametrize(
    "shape",
    [
        *((1, 320, 17, 96, 64), (66, 320, 96, 64), (66, 960, 96, 64), (66, 1280, 12, 8)),
        *((2, 2560, 33, 24, 16), (1, 2, 1), (3, 5, 7), (1, 2**20, 3), (2**20, 4, 2)),
    ],
)
def test_blocks_of_a_gpu_take_every_row_once(shape):
    x = torch.empty(shape, device="meta")
    rows = x.numel() // (shape[0] * shape[1])
    block, count = layout.thread_blocks(x)
    assert (count - 1) * block < rows <= count * block
    # the partial sums of the backward pass stay small beside x and its gradient
    assert shape[0] * count * 3 <= max(shape[0] * 3, shape[0] * rows)


def test_the_digits_of_a_small_variance_are_kept():
    check(make_x(1, 8, 10, 10) + 1e4, 2, torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, 8:24],  # aligned pieces
        lambda x: x[:, 4:20],  # aligned to 8 bytes
        lambda x: x[:, 2:18],
        lambda x: x[:, 3:15],
        lambda x: x[:, :, 1:4],  # frames of a longer clip
        lambda x: x[:, :, ::2],
        lambda x: x[:, :, 1:4, 1:3, 2:5],  # a crop
        lambda x: x[:, 8:, ::3, 1:, :4],
        lambda x: x[:, 1:25, :, ::2, ::2],
        lambda x: x[1:, :, :, 2:3],
    ],
)
def test_views_are_read_in_place(view, dtype, small_blocks):
    x = view(make_x(2, 32, 6, 4, 5).to(dtype))  # a cast of a view would be dense
    assert layout.refusal(x) is None
    check(x, 2 if x.shape[1] % 3 else 3, dtype)


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


@pytest.fixture
def poisoned():
    # memory that nobody has written to is NaN
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("channels", [36, 64, 33])
def test_results_depend_neither_on_the_order_of_threads_nor_on_old_memory(
    channels, small_blocks, poisoned
):
    inputs = gates.cast(make_inputs(make_x(2, channels, 30), 1), torch.float32, frozenset())
    assert inputs["x"].new_empty(4).isnan().all()
    with cuda_emulation.emulated("group_norm_silu"):
        first, second = (gates.run(group_norm_silu, inputs, backend="native") for _ in range(2))
    for name, value in first.items():
        assert value.isfinite().all(), name
        assert torch.equal(value, second[name]), name
