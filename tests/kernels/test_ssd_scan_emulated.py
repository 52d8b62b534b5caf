"""The CUDA code of ssd_scan, run on the CPU: threads are fibers, see cuda_emulation."""

import cuda_emulation
import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unianimate_kernels import ssd_scan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        cuda_emulation.skip_reason() is not None, reason=str(cuda_emulation.skip_reason())
    ),
]

DTYPES = cuda_emulation.DTYPES
PARAMETERS = frozenset({"A", "D", "dt_bias", "initial_state"})
FRAMES = (1, 2, 3, 4, 5, 15, 16, 17, 33, 65, 97)


def make_inputs(frames, *, batch=1, space=1, heads=2, width=6, groups=1, d_state=5, state=True):
    generator = torch.Generator().manual_seed(frames)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = {
        "x": normal(batch, frames, space, heads, width),
        "dt": normal(batch, frames, space, heads) - 1,
        "A": -normal(heads).exp(),
        "B": normal(batch, frames, space, groups, d_state),
        "C": normal(batch, frames, space, groups, d_state),
        "D": normal(heads),
        "z": normal(batch, frames, space, heads, width),
        "dt_bias": normal(heads),
    }
    if state:
        inputs["initial_state"] = normal(batch, space, heads, width, d_state)
    return inputs


def check(inputs, dtype, **options):
    with cuda_emulation.emulated("ssd_scan"):
        gates.check(
            ssd_scan, inputs, backend="native", dtype=dtype, parameters=PARAMETERS, **options
        )


@pytest.mark.parametrize("frames", FRAMES)
def test_one_chunk_meets_the_gate(frames):
    check(make_inputs(frames, state=False), DTYPES[frames % 3], reverse=frames % 2 == 0)


@pytest.mark.parametrize("frames", FRAMES)
def test_states_and_several_chunks_meet_the_gate(frames):
    inputs = make_inputs(frames, batch=1 + frames % 2, width=5)
    check(inputs, DTYPES[frames % 3], chunk_size=16, reverse=frames % 2 == 1,
          return_final_state=True)  # fmt: skip


@pytest.mark.parametrize("space", [2, 4, 8])
@pytest.mark.parametrize("state", [False, True])
def test_heads_of_a_group_share_a_block_or_are_divided(state, space):
    """Two emulated multiprocessors want eight blocks: three heads in one, in two, or one each."""
    check(make_inputs(9, space=space, heads=3, state=state), torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_usual_sizes_meet_the_gate(dtype):
    """P = N = 64, three heads of a group, with states: 17 frames are one chunk."""
    check(make_inputs(17, heads=3, width=64, d_state=64), dtype, return_final_state=True)


def test_the_largest_sizes_meet_the_gate():
    check(make_inputs(10, heads=1, width=128, d_state=128), torch.float32, slack=2)


@given(
    frames=st.integers(1, 40),
    space=st.integers(1, 2),
    groups=st.integers(1, 2),
    shared=st.integers(1, 3),
    width=st.integers(1, 24),
    d_state=st.integers(1, 24),
    chunk_size=st.none() | st.integers(1, 20),
    state=st.booleans(),
    reverse=st.booleans(),
    dt_softplus=st.booleans(),
    return_final_state=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=12, deadline=None)
def test_drawn_shapes_meet_the_gate(
    frames, space, groups, shared, width, d_state, state, dt_softplus, dtype, **options
):
    sizes = {"space": space, "heads": groups * shared, "groups": groups}
    inputs = make_inputs(frames, width=width, d_state=d_state, state=state, **sizes)
    if not dt_softplus:  # a step must be positive for the states to decay
        inputs |= {"dt": inputs["dt"].abs(), "dt_bias": inputs["dt_bias"].abs()}
    # few elements may all cancel, and with one head the gradient of A is a single sum
    check(inputs, dtype, slack=4, dt_softplus=dt_softplus, **options)


@pytest.mark.parametrize(
    "absent", [("D",), ("z",), ("dt_bias",), ("D", "z", "dt_bias", "initial_state")]
)
def test_absent_arguments(absent):
    inputs = make_inputs(9)
    for name in absent:
        del inputs[name]
    check(inputs, torch.float32, chunk_size=4)


def test_strided_views_are_read_in_place():
    """Slices of one wide projection, and batch behind space in memory."""
    dense = make_inputs(6, batch=2, space=3, state=False)
    wide = torch.cat(
        [dense[name].flatten(3) for name in ("x", "z", "B", "C", "dt")], dim=-1
    ).movedim(2, 0)
    views = wide.contiguous().movedim(0, 2).split([12, 12, 5, 5, 2], dim=-1)
    x, z, B, C, dt = views
    inputs = dense | {
        "x": x.unflatten(-1, (2, 6)),
        "z": z.unflatten(-1, (2, 6)),
        "B": B.unflatten(-1, (1, 5)),
        "C": C.unflatten(-1, (1, 5)),
        "dt": dt,
    }
    check(inputs, torch.float32)
    assert not any(inputs[name].is_contiguous() for name in ("x", "z", "B", "C", "dt"))


def test_decays_from_nothing_to_almost_one_meet_the_gate():
    inputs = make_inputs(40)
    inputs["A"] = torch.tensor([-300.0, -1e-6], dtype=torch.float64)
    inputs["dt"] = inputs["dt"] * 30
    check(inputs, torch.float32, return_final_state=True)


def test_results_do_not_depend_on_the_order_of_threads():
    inputs = gates.cast(make_inputs(18, space=2, heads=3), torch.float32, PARAMETERS)
    with cuda_emulation.emulated("ssd_scan"):
        first, second = (
            gates.run(ssd_scan, inputs, backend="native", chunk_size=8) for _ in range(2)
        )
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_sizes_beyond_the_limit_are_refused():
    inputs = gates.cast(make_inputs(2, d_state=129), torch.float32, PARAMETERS)
    with (
        cuda_emulation.emulated("ssd_scan"),
        pytest.raises(RuntimeError, match="up to 128 channels and up to 128 states"),
    ):
        ssd_scan(**inputs, backend="native")
