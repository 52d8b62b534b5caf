from typing import Any

import gates
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unianimate_kernels import BackendError, group_norm_silu
from unianimate_kernels.group_norm_silu import layout

DTYPES = (torch.float32, torch.bfloat16)


def make_x(*shape: int, channels_last: bool = True, seed: int = 0) -> Tensor:
    """Return float64 values about 3, so that a variance without its mean would lose digits."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(*shape, generator=generator, dtype=torch.float64) + 3
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else x


def make_inputs(x: Tensor, num_groups: int, *, embedding: bool = True) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    channels = x.shape[1]
    inputs = {"x": x, "num_groups": num_groups, "weight": random(channels)}
    inputs["bias"] = random(channels)
    # in a group of one channel the embedding cancels: its gradient is nothing but rounding
    if embedding and channels > num_groups:
        inputs["embedding"] = random(*x.shape[:2])
    return inputs


def check(x: Tensor, num_groups: int, dtype: torch.dtype, **options: Any) -> None:
    inputs = make_inputs(x, num_groups, embedding=options.pop("embedding", True))
    gates.check(group_norm_silu, inputs, backend="native", dtype=dtype, **options)


def test_reference_is_the_formula():
    x = make_x(2, 6, 5)
    inputs = make_inputs(x, 3)
    wanted = torch.empty_like(x)
    for n in range(2):
        for group in range(3):
            channels = slice(2 * group, 2 * group + 2)
            h = x[n, channels] + inputs["embedding"][n, channels, None]
            u = (h - h.mean()) / (h.var(unbiased=False) + 1e-5).sqrt()
            z = u * inputs["weight"][channels, None] + inputs["bias"][channels, None]
            wanted[n, channels] = z / (1 + torch.exp(-z))
    torch.testing.assert_close(group_norm_silu(**inputs, backend="reference"), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["silu", None])
@pytest.mark.parametrize(
    ("shape", "num_groups"),
    [
        ((1, 320, 9, 7), 32),
        ((3, 34, 5, 3), 17),
        ((2, 30, 17, 3, 2), 5),
        ((2, 48), 4),
        ((1, 1, 9), 1),
    ],
)
def test_native_meets_the_gate(shape, num_groups, activation, dtype):
    for channels_last in (True, False):
        x = make_x(*shape, channels_last=channels_last)
        check(x, num_groups, dtype, activation=activation, embedding=activation is None)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 15, 16, 17, 33, 65, 97])
def test_native_meets_the_gate_for_every_number_of_frames(frames):
    check(make_x(2, 12, frames, 3, 1), 3, torch.float32)


@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 5),
    per_group=st.integers(2, 23),
    space=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    channels_last=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=25, deadline=None)
def test_native_meets_the_gate_at_drawn_shapes(
    batch, groups, per_group, space, channels_last, dtype
):
    # of two values nothing but the sign is left: at least six, or the gradients are rounding
    x = make_x(batch, groups * per_group, 3, *space, channels_last=channels_last)
    check(x, groups, dtype)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, 4:16],  # a slice of a concatenation of channels
        lambda x: x[:, :, 1:4],  # frames of a longer clip
        lambda x: x[:, :, ::2],
        lambda x: x[:, :, 1:4, 1:3, 2:5],  # a crop
        lambda x: x[:, :, 1:4].transpose(1, 2).flatten(0, 1) if x.shape[0] == 1 else x[1:],
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_native_reads_views_in_place(view, batch):
    x = view(make_x(batch, 24, 6, 4, 5))
    assert layout.refusal(x.float()) is None
    check(x, 4, torch.float32)


def test_native_sums_many_blocks_the_same_for_any_number_of_threads():
    inputs = make_inputs(make_x(1, 66, 40, 50).float(), 6)
    inputs = {k: v.float() if isinstance(v, Tensor) else v for k, v in inputs.items()}
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(gates.run(group_norm_silu, inputs, backend="native"))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for name, value in results[0].items():
            assert torch.equal(value, other[name]), name


def test_native_keeps_the_digits_of_a_small_variance():
    x = make_x(1, 8, 30, 30) + 1e4
    inputs = make_inputs(x, 2)
    gates.check(group_norm_silu, inputs, backend="native", dtype=torch.float32)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_format_is_kept(channels_last):
    x = make_x(2, 12, 3, 4, 5, channels_last=channels_last).float().requires_grad_()
    weight, bias = torch.ones(12), torch.zeros(12)
    for backend in ("native", "reference"):
        out = group_norm_silu(x, 3, weight, bias, backend=backend)
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert out.stride() == x.stride(), backend
        if backend == "native":
            assert grad.stride() == x.stride()


def test_other_memory_goes_to_the_reference():
    x = make_x(2, 12, 4, 6, channels_last=False).float()[..., 1:4]
    weight, bias = torch.ones(12), torch.zeros(12)
    with pytest.raises(BackendError, match="channels-last memory"):
        group_norm_silu(x, 3, weight, bias, backend="native")
    torch.testing.assert_close(
        group_norm_silu(x, 3, weight, bias),
        group_norm_silu(x.contiguous(), 3, weight, bias, backend="native"),
    )


@pytest.mark.parametrize("channels_last", [True, False])
def test_gradcheck(channels_last):
    x = make_x(2, 6, 3, 2, channels_last=channels_last)
    tensors = list(make_inputs(x, 3).values())
    leaves = [t.requires_grad_() for t in tensors if isinstance(t, Tensor)]

    def op(x: Tensor, weight: Tensor, bias: Tensor, embedding: Tensor) -> Tensor:
        return group_norm_silu(x, 3, weight, bias, embedding=embedding, backend="native")

    assert torch.autograd.gradcheck(op, leaves)


def test_opcheck():
    inputs = make_inputs(make_x(2, 6, 3, 2).float(), 3)
    weight, bias, embedding = (inputs[k].float() for k in ("weight", "bias", "embedding"))
    x = inputs["x"].requires_grad_()
    group_norm_silu(x, 3, weight, bias, backend="native")
    torch.library.opcheck(
        torch.ops.unianimate.group_norm_silu_native, (x, 3, weight, bias, 1e-5, embedding, True)
    )


def compiled_agrees(backend: str) -> None:
    x = make_x(2, 6, 3, 2).float().requires_grad_()
    weight, bias = torch.ones(6), torch.zeros(6)

    def op(x: Tensor) -> Tensor:
        return group_norm_silu(x, 3, weight, bias)

    out = torch.compile(op, fullgraph=True, backend=backend)(x)
    torch.testing.assert_close(out, op(x))
    wanted = torch.autograd.grad(op(x).square().sum(), x)
    torch.testing.assert_close(torch.autograd.grad(out.square().sum(), x), wanted)


def test_compiles_without_a_graph_break():
    compiled_agrees("aot_eager")


@pytest.mark.slow
def test_compiles_with_inductor():
    compiled_agrees("inductor")


def test_autocast_casts_activations_and_weights():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = group_norm_silu(torch.randn(1, 4, 3), 2, torch.ones(4), torch.zeros(4))
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(4)}, ValueError, r"x must be \(N, C, ...\)"),
        ({"x": torch.zeros(0, 4, 2)}, ValueError, "empty axis"),
        ({"x": torch.zeros(2, 4, 3, dtype=torch.int32)}, TypeError, "give both the same"),
        ({"weight": torch.zeros(4).double()}, TypeError, "weight is torch.float64 and x is"),
        ({"bias": torch.zeros(3)}, ValueError, r"bias must have shape \(4,\)"),
        ({"embedding": torch.zeros(1, 4)}, ValueError, r"embedding must have shape \(2, 4\)"),
        ({"x": [1.0]}, TypeError, "x must be a tensor, got list"),
        ({"weight": None}, TypeError, "weight must be a tensor, got NoneType"),
        ({"num_groups": 3}, ValueError, "num_groups must divide the 4 channels, got 3"),
        ({"activation": "relu"}, ValueError, "activation must be 'silu' or None"),
        ({"weight": torch.zeros(4, device="meta")}, ValueError, "weight is on meta and x on cpu"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    inputs = {"x": torch.zeros(2, 4, 3), "num_groups": 2, "weight": torch.ones(4)}
    with pytest.raises(error, match=message):
        group_norm_silu(**{**inputs, "bias": torch.zeros(4), **change})
