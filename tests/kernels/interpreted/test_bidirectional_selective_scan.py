"""bidirectional_selective_scan's Triton kernels on CPU tensors; bfloat16 is not for these."""

import gates
import pytest
import torch

from unianimate_kernels import bidirectional_selective_scan

NAMES = ("x", "dt", "A", "B", "C", "D", "dt_bias")
PARAMETERS = frozenset(f"{n}{end}" for n in ("A", "D", "dt_bias") for end in ("", "_reverse"))


def make_inputs(frames, *, own=(), batch=1, space=1, width=3, d_state=2, geometric=False):
    """Inputs of both directions; ``own`` are the names that the reverse one does not share."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def direction():
        rates = random(width) if geometric else random(width, d_state)
        return {
            "x": random(batch, frames, space, width),
            "dt": random(batch, frames, space, width),
            "A": -rates.exp(),
            "B": random(batch, frames, space, d_state),
            "C": random(batch, frames, space, d_state),
            "D": random(width),
            "dt_bias": random(width),
        }

    reverse = {f"{n}_reverse": value for n, value in direction().items() if n in own}
    return direction() | reverse | {"z": random(batch, frames, space, width)}


def check(inputs, dtype=torch.float32, **options):
    gates.check(
        bidirectional_selective_scan,
        inputs,
        backend="triton",
        dtype=dtype,
        parameters=PARAMETERS,
        **options,
    )


@pytest.mark.parametrize(
    ("frames", "own", "dtype"),
    [
        (1, NAMES, torch.float32),
        (2, (), torch.float16),
        (3, NAMES, torch.float32),
        (17, (), torch.float16),
        (33, (), torch.float32),
        (33, NAMES, torch.float32),
    ],
    ids=lambda value: "own" if value == NAMES else None,
)
def test_meets_the_gate(frames, own, dtype):
    check(make_inputs(frames, own=own), dtype)


@pytest.mark.parametrize("name", NAMES)
def test_any_argument_may_be_separate(name):
    check(make_inputs(2, own=(name,)), torch.float16)


@pytest.mark.parametrize("own", [(), NAMES], ids=["shared", "separate"])
def test_geometric_decays(own):
    check(make_inputs(3, own=own, geometric=True, d_state=5))


def test_without_the_optional_arguments():
    inputs = make_inputs(3)
    for name in ("D", "z", "dt_bias"):
        del inputs[name]
    check(inputs, dt_softplus=False)


def test_several_locations_batches_and_tiles_of_channels():
    check(make_inputs(2, batch=2, space=2, width=131))


def test_strided_frames_channels_and_locations():
    inputs = make_inputs(3, own=("x",), batch=2, space=2)
    inputs["x_reverse"] = torch.randn(
        2, 6, 2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(7)
    )[:, ::2, :, 4:7]
    inputs["z"] = torch.randn(
        3, 2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7)
    ).permute(1, 0, 2, 3)
    check(inputs)


@pytest.mark.parametrize("own", [(), NAMES], ids=["shared", "separate"])
def test_opcheck(own):
    inputs = gates.cast(make_inputs(2, own=own), torch.float32, PARAMETERS)
    leaves = {name: tensor.requires_grad_() for name, tensor in inputs.items()}
    bidirectional_selective_scan(**leaves, backend="triton")
    order = ("x", "dt", "A", "B", "C", "D", "z", "dt_bias", *(f"{n}_reverse" for n in NAMES))
    op = torch.ops.unianimate.bidirectional_selective_scan_triton
    torch.library.opcheck(op, (*(leaves.get(name) for name in order), True))


def test_compiles_without_a_graph_break():
    inputs = gates.cast(make_inputs(2, own=("A",)), torch.float32, PARAMETERS)
    compiled = torch.compile(bidirectional_selective_scan, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(**inputs, backend="triton"),
        bidirectional_selective_scan(**inputs, backend="reference"),
    )
