"""The CUDA code of the scans, run on the CPU: threads are fibers, see cuda_emulation."""

import cuda_emulation
import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unianimate_kernels import bidirectional_selective_scan, selective_scan

pytestmark = pytest.mark.skipif(
    cuda_emulation.skip_reason() is not None, reason=str(cuda_emulation.skip_reason())
)

DTYPES = cuda_emulation.DTYPES
PARAMETERS = frozenset(
    {"A", "D", "dt_bias", "initial_state", "A_reverse", "D_reverse", "dt_bias_reverse"}
)
ACTIVATIONS = ("x", "dt", "B", "C", "z")


def make_inputs(batch, frames, space, width, d_state, *, geometric=False, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "x": random(batch, frames, space, width),
        "dt": random(batch, frames, space, width) - 2,
        "A": -random(width).exp() / 4 if geometric else -random(width, d_state).exp(),
        "B": random(batch, frames, space, d_state),
        "C": random(batch, frames, space, d_state),
        "D": random(width),
        "z": random(batch, frames, space, width),
        "dt_bias": random(width),
    }


def check(op, inputs, dtype, **options):
    with cuda_emulation.emulated("selective_scan", "bidirectional_selective_scan"):
        gates.check(op, inputs, backend="native", dtype=dtype, parameters=PARAMETERS, **options)


def with_state(inputs, d_state):
    batch, _, space, width = inputs["x"].shape
    generator = torch.Generator().manual_seed(9)
    state = torch.randn(batch, space, width, d_state, generator=generator, dtype=torch.float64)
    return {**inputs, "initial_state": state}


FRAMES = (1, 2, 3, 4, 5, 15, 16, 17, 33, 65, 87, 97)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("frames", "geometric"), [*((frames, False) for frames in FRAMES), (17, True), (97, True)]
)
def test_both_directions_meet_the_gate(frames, geometric, dtype):
    inputs = make_inputs(1, frames, 2, 6, 16, geometric=geometric)
    check(bidirectional_selective_scan, inputs, dtype)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_direction_with_states_meets_the_gate(dtype, reverse):
    inputs = with_state(make_inputs(2, 17, 3, 131, 16), 16)
    check(selective_scan, inputs, dtype, reverse=reverse, return_final_state=True)


@given(
    batch=st.integers(1, 3),
    frames=st.integers(1, 50),
    space=st.integers(2, 5),  # the gate is relative: few elements may all cancel
    width=st.integers(16, 140),
    d_state=st.integers(4, 40),
    geometric=st.booleans(),
    softplus=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=10, deadline=None)
def test_drawn_shapes_meet_the_gate(
    batch, frames, space, width, d_state, geometric, softplus, dtype
):
    inputs = make_inputs(batch, frames, space, width, d_state, geometric=geometric)
    if not softplus:  # a step must be positive for the states to decay
        inputs |= {"dt": inputs["dt"].abs(), "dt_bias": inputs["dt_bias"].abs()}
    inputs = with_state(inputs, d_state)
    check(selective_scan, inputs, dtype, slack=2.0, dt_softplus=softplus, return_final_state=True)


@pytest.mark.parametrize(
    "own",
    [("x", "B"), ("dt", "A", "dt_bias"), ("C", "D"), ("x", "dt", "A", "B", "C", "D", "dt_bias")],
)
@pytest.mark.parametrize("d_state", [5, 20])
def test_own_and_shared_inputs_of_the_directions(own, d_state):
    inputs = make_inputs(2, 9, 2, 70, d_state)
    other = make_inputs(2, 9, 2, 70, d_state, seed=1)
    inputs |= {f"{name}_reverse": other[name] for name in own}
    check(bidirectional_selective_scan, inputs, torch.float32)


@pytest.mark.parametrize("absent", [("D",), ("z",), ("dt_bias",), ("D", "z", "dt_bias")])
@pytest.mark.parametrize("op", [selective_scan, bidirectional_selective_scan])
def test_absent_arguments(op, absent):
    inputs = make_inputs(1, 10, 2, 8, 16)
    for name in absent:
        del inputs[name]
    check(op, inputs, torch.float32)


@pytest.mark.parametrize("offset", [1, 2])
def test_strided_inputs(offset):
    inputs = make_inputs(2, 9, 3, 10, 7)
    for name in ACTIVATIONS:
        value = inputs[name]
        wide = torch.zeros(value.shape[2], value.shape[0], value.shape[1], value.shape[3] + 5)
        view = wide.double().permute(1, 2, 0, 3)[..., offset : offset + value.shape[3]]
        inputs[name] = view.copy_(value)
    check(bidirectional_selective_scan, inputs, torch.float32)


def test_results_do_not_depend_on_the_order_of_threads():
    inputs = gates.cast(make_inputs(2, 18, 3, 80, 20), torch.float32, PARAMETERS)
    with cuda_emulation.emulated("bidirectional_selective_scan"):
        first, second = (
            gates.run(bidirectional_selective_scan, inputs, backend="native") for _ in range(2)
        )
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
