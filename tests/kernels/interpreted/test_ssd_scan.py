"""ssd_scan's Triton kernels on CPU tensors; bfloat16 is not the interpreter's."""

import gates
import pytest
import torch
import triton.language as tl

from unianimate_kernels import ssd_scan
from unianimate_kernels.ssd_scan import triton_forward

PARAMETERS = frozenset({"A", "D", "dt_bias", "initial_state"})


def make_inputs(frames, *, batch=1, space=1, heads=2, groups=1, width=5, d_state=3, full=True):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = {
        "x": normal(batch, frames, space, heads, width),
        "dt": normal(batch, frames, space, heads) - 1,
        "A": -normal(heads).exp(),
        "B": normal(batch, frames, space, groups, d_state),
        "C": normal(batch, frames, space, groups, d_state),
    }
    if full:
        inputs["D"] = normal(heads)
        inputs["z"] = normal(batch, frames, space, heads, width)
        inputs["dt_bias"] = normal(heads)
        inputs["initial_state"] = normal(batch, space, heads, width, d_state)
    return inputs


def check(inputs, dtype=torch.float32, **options):
    gates.check(ssd_scan, inputs, backend="triton", dtype=dtype, parameters=PARAMETERS, **options)


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 16, 17, 33, 65])
def test_meets_the_gate(frames):
    dtype = torch.float16 if frames % 2 else torch.float32
    check(make_inputs(frames), dtype, reverse=frames > 4, return_final_state=True)


@pytest.mark.parametrize("frames", [4, 17, 33])
def test_without_states_and_options(frames):
    check(make_inputs(frames, full=False), dt_softplus=True)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 3, 5, 16, 17, 18, 33, 65, 70])
def test_half_clips_of_every_length(frames, reverse):
    inputs = make_inputs(frames, heads=3, width=7)
    inputs.pop("initial_state")
    check(inputs, torch.float16, reverse=reverse, gradients=False)


@pytest.mark.parametrize("frames", [66, 97, 128, 129, 130, 200])
def test_half_clips_of_several_chunks(frames):
    inputs = make_inputs(frames, heads=2, groups=1 + frames % 2)
    state = inputs.pop("initial_state")
    check(inputs, torch.float16, reverse=frames > 128, gradients=False)
    check({**inputs, "initial_state": state}, torch.float16, gradients=False)


@pytest.mark.parametrize("strength", [1e-2, 30.0])
@pytest.mark.parametrize("shift", [-3.0, 30.0])
@pytest.mark.parametrize("frames", [128, 129])
def test_half_decays_of_any_strength(frames, shift, strength):
    inputs = make_inputs(frames, full=False)
    inputs |= {"A": inputs["A"] * strength, "dt": inputs["dt"] + shift}
    check(inputs, torch.float16, gradients=False)


def test_half_steps_that_are_mostly_none():
    # one large step makes the sums large, beside which the decays of the others are small
    inputs = make_inputs(97)
    inputs["dt"] = torch.zeros_like(inputs["dt"])
    inputs["dt"][:, 40], inputs["dt"][:, 41:60] = 100.0, 0.01
    inputs["dt_bias"].zero_()
    check(inputs, torch.float16, dt_softplus=False, gradients=False)


def test_half_clip_whose_state_grows():
    # without softplus a step may be negative, and what decayed grows
    inputs = make_inputs(100, full=False)
    inputs["dt"] = inputs["dt"] * 0.1
    check(inputs, torch.float16, dt_softplus=False, gradients=False)


@pytest.mark.parametrize(("frames", "d_state"), [(66, 3), (97, 3), (129, 3), (66, 130)])
def test_half_final_state_is_as_exact_as_float32(frames, d_state):
    # the gate allows it what plain torch errs in float32
    inputs = make_inputs(frames, d_state=d_state)
    check(inputs, torch.float16, return_final_state=True)


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_half_heads_of_a_program(most, monkeypatch):
    def options(*arguments):
        return half_options(*arguments)._replace(heads=most)

    half_options = triton_forward.half_options
    monkeypatch.setattr(triton_forward, "half_options", options)
    inputs = make_inputs(17, batch=2, space=2, heads=6, groups=2, width=67, d_state=70)
    inputs.pop("initial_state")
    check(inputs, torch.float16, gradients=False)


def test_half_weights_in_the_dtype_itself(monkeypatch):
    # as bfloat16 has them, which the interpreter cannot compute
    def tiles(*arguments):
        programs, constants = half_tiles(*arguments)
        return programs, {**constants, "OPERAND": tl.float16}

    half_tiles = triton_forward.half_tiles
    monkeypatch.setattr(triton_forward, "half_tiles", tiles)
    for frames in (17, 20, 49):
        check(make_inputs(frames, groups=2), torch.float16, return_final_state=True)
        check(make_inputs(frames, full=False), torch.float16)
    check(make_inputs(70), torch.float16, gradients=False)


def test_half_weights_beyond_float16():
    inputs = make_inputs(6, full=False)
    # W[5, j] is about 10^5, and y is not
    inputs |= {"B": inputs["B"] * 1e3, "C": inputs["C"] * 1e3, "x": inputs["x"] * 1e-2}
    check(inputs, torch.float16, gradients=False)


@pytest.mark.parametrize("d_state", [70, 130])
def test_half_states_of_any_number(d_state):
    check(make_inputs(18, width=33, d_state=d_state), torch.float16, return_final_state=True)
    check(make_inputs(67, width=67, d_state=d_state), torch.float16, gradients=False)


@pytest.mark.parametrize("frames", [17, 66])
def test_half_strided_views(frames):
    generator = torch.Generator().manual_seed(0)

    def view(heads, width):
        wide = torch.randn(3, 1, frames, heads, 2 * width, generator=generator)
        return wide.permute(1, 2, 0, 3, 4)[..., width // 2 : width // 2 + width]

    dense = make_inputs(frames, space=3, width=7)
    dense.pop("initial_state")
    views = {"x": view(2, 7), "z": view(2, 7), "B": view(1, 3), "C": view(1, 3)}
    check({**dense, **views}, torch.float16, reverse=True, gradients=frames < 20)


def test_without_softplus():
    inputs = make_inputs(5, full=False)
    check({**inputs, "dt": inputs["dt"].abs()}, dt_softplus=False, return_final_state=True)


def test_several_heads_a_group():
    check(make_inputs(2, batch=2, heads=4, groups=2))


def test_several_tiles_of_channels_and_states():
    check(make_inputs(3, heads=1, width=67, d_state=19))


@pytest.mark.parametrize("chunk_size", [1, 16, 32])
def test_chunk_size_does_not_change_the_result(chunk_size):
    # chunks of one frame: as many as frames
    frames = 5 if chunk_size == 1 else 33
    check(make_inputs(frames), chunk_size=chunk_size, return_final_state=True)


def test_strided_views():
    generator = torch.Generator().manual_seed(0)
    wide = {name: torch.randn(3, 1, 6, 2, 20, generator=generator) for name in ("x", "z")}
    inputs = {name: value.permute(1, 2, 0, 3, 4)[..., 4:11] for name, value in wide.items()}
    dense = make_inputs(6, space=3, width=7)
    check({**dense, **inputs}, reverse=True)


def test_any_split_of_the_frames_gives_the_unsplit_result():
    inputs = gates.cast(make_inputs(20), torch.float32, PARAMETERS)
    whole = ssd_scan(**inputs, return_final_state=True, backend="triton")
    outputs, state = [], inputs["initial_state"]
    for start, stop in ((0, 3), (3, 20)):
        clip = {
            name: value[:, start:stop] if name in ("x", "dt", "B", "C", "z") else value
            for name, value in inputs.items()
        }
        clip["initial_state"] = state
        output, state = ssd_scan(**clip, return_final_state=True, backend="triton")
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole.output)
    torch.testing.assert_close(state, whole.final_state)


def test_opcheck():
    inputs = {name: value.float().requires_grad_() for name, value in make_inputs(3).items()}
    state = inputs.pop("initial_state")
    ssd_scan(**inputs, backend="triton")
    for returned in (True, False):  # without it the final state is empty, and so is its gradient
        torch.library.opcheck(
            torch.ops.unianimate.ssd_scan_triton,
            (*inputs.values(), True, False, None, state, returned),
        )
