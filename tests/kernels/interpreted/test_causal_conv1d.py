"""causal_conv1d's Triton kernels on CPU tensors; bfloat16 is not the interpreter's."""

import gates
import pytest
import torch

from unianimate_kernels import causal_conv1d

STATE = frozenset({"initial_state"})


def make_inputs(frames, *, batch=1, space=2, width=5, taps=4, full=True):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = {"x": random(batch, frames, space, width), "weight": random(width, taps)}
    if full:
        inputs["bias"] = random(width)
        inputs["initial_state"] = random(batch, space, taps - 1, width)
    return inputs


def check(inputs, dtype=torch.float32, **options):
    gates.check(causal_conv1d, inputs, backend="triton", dtype=dtype, parameters=STATE, **options)


@pytest.mark.parametrize(
    ("frames", "reverse", "dtype"),
    [
        (1, False, torch.float16),
        (2, True, torch.float32),
        (3, False, torch.float32),
        (17, True, torch.float16),
        (33, False, torch.float16),
        (33, True, torch.float32),
    ],
)
def test_meets_the_gate(frames, reverse, dtype):
    check(make_inputs(frames), dtype, reverse=reverse, return_final_state=True)


@pytest.mark.parametrize("taps", [1, 2, 3, 6])
def test_any_number_of_taps(taps):
    check(make_inputs(4, taps=taps), reverse=taps % 2 == 0, return_final_state=True)


def test_without_bias_state_and_activation():
    check(make_inputs(5, full=False), activation=None)


def test_several_tiles_of_channels_and_batches():
    check(make_inputs(3, batch=2, width=131))


def test_strided_frames_and_channels():
    inputs = make_inputs(3)
    inputs["x"] = torch.randn(
        1, 6, 2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(7)
    )[:, ::2, :, 4:9]
    check(inputs)


def test_opcheck():
    inputs = gates.cast(make_inputs(3), torch.float32, STATE)
    x, weight, bias, state = (tensor.requires_grad_() for tensor in inputs.values())
    causal_conv1d(x, weight, backend="triton")
    op = torch.ops.unianimate.causal_conv1d_triton
    torch.library.opcheck(op, (x, weight, bias, True, False, state))


def test_compiles_without_a_graph_break():
    inputs = gates.cast(make_inputs(3), torch.float32, STATE)
    compiled = torch.compile(causal_conv1d, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(**inputs, backend="triton"), causal_conv1d(**inputs, backend="reference")
    )
