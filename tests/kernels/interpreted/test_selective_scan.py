"""selective_scan's Triton kernels on CPU tensors; bfloat16 is not the interpreter's."""

import gates
import pytest
import torch

from unianimate_kernels import selective_scan

PARAMETERS = frozenset({"A", "D", "dt_bias", "initial_state"})
STATES = {"return_final_state": True}


def make_inputs(frames, *, batch=1, space=1, width=3, d_state=2, geometric=False, full=True):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rates = random(width) if geometric else random(width, d_state)
    inputs = {
        "x": random(batch, frames, space, width),
        "dt": random(batch, frames, space, width),
        "A": -rates.exp(),
        "B": random(batch, frames, space, d_state),
        "C": random(batch, frames, space, d_state),
    }
    if full:
        inputs |= {"D": random(width), "z": random(batch, frames, space, width)}
        inputs |= {"dt_bias": random(width), "initial_state": random(batch, space, width, d_state)}
    return inputs


def check(inputs, dtype=torch.float32, **options):
    gates.check(
        selective_scan, inputs, backend="triton", dtype=dtype, parameters=PARAMETERS, **options
    )


@pytest.mark.parametrize(
    ("frames", "reverse", "dtype"),
    [
        (1, False, torch.float32),
        (2, True, torch.float16),
        (3, False, torch.float16),
        (17, True, torch.float16),
        # two chunks of the backward kernel
        (33, False, torch.float32),
        (33, True, torch.float32),
    ],
)
def test_meets_the_gate(frames, reverse, dtype):
    check(make_inputs(frames), dtype, reverse=reverse, **STATES)


@pytest.mark.parametrize(
    ("frames", "reverse", "dtype"), [(3, False, torch.float16), (17, True, torch.float32)]
)
def test_geometric_decays(frames, reverse, dtype):
    check(make_inputs(frames, geometric=True, d_state=3), dtype, reverse=reverse, **STATES)


@pytest.mark.parametrize("d_state", [1, 5, 17, 40])
def test_any_number_of_states(d_state):
    check(make_inputs(2, d_state=d_state, width=35), **STATES)


def test_without_the_optional_arguments():
    check(make_inputs(3, full=False), dt_softplus=False)


def test_several_locations_batches_and_tiles_of_channels():
    check(make_inputs(2, batch=2, space=3, width=131), **STATES)


def test_a_program_sums_over_a_run_of_locations(monkeypatch):
    from unianimate_kernels.selective_scan import triton

    monkeypatch.setattr(triton, "_PROGRAMS", 2)
    check(make_inputs(2, space=5), **STATES)


def test_strided_frames_channels_and_locations():
    inputs = make_inputs(3, batch=2, space=2)
    inputs["x"] = torch.randn(
        2, 6, 2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(7)
    )[:, ::2, :, 4:7]
    inputs["B"] = torch.randn(
        3, 2, 2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(7)
    ).permute(1, 0, 2, 3)[..., 1:3]
    check(inputs)


@pytest.mark.parametrize("reverse", [False, True])
def test_split_frames_continue_from_the_state(reverse):
    inputs = gates.cast(make_inputs(5), torch.float32, PARAMETERS)
    options = {"reverse": reverse, "return_final_state": True, "backend": "triton"}
    whole = selective_scan(**inputs, **options)
    along = ("x", "dt", "B", "C", "z")
    parts = [
        inputs | {name: inputs[name][:, frames] for name in along}
        for frames in (slice(0, 2), slice(2, 5))
    ]
    first, second = reversed(parts) if reverse else parts
    before = selective_scan(**first, **options)
    after = selective_scan(**second | {"initial_state": before.final_state}, **options)
    outputs = [after.output, before.output] if reverse else [before.output, after.output]
    torch.testing.assert_close(torch.cat(outputs, 1), whole.output, rtol=0, atol=0)
    torch.testing.assert_close(after.final_state, whole.final_state, rtol=0, atol=0)


def test_opcheck():
    inputs = gates.cast(make_inputs(2), torch.float32, PARAMETERS)
    tensors = [tensor.requires_grad_() for tensor in inputs.values()]
    selective_scan(**inputs, backend="triton")
    op = torch.ops.unianimate.selective_scan_triton
    torch.library.opcheck(op, (*tensors, True, False, True))


def test_compiles_without_a_graph_break():
    inputs = gates.cast(make_inputs(2), torch.float32, PARAMETERS)
    compiled = torch.compile(selective_scan, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(**inputs, backend="triton"), selective_scan(**inputs, backend="reference")
    )
