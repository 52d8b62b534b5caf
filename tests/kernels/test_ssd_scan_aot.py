"""ssd_scan's GPU kernels compiled without a GPU: no spills, no local memory, bounded registers."""

import pytest
import torch

aot = pytest.importorskip("aot", reason="triton is not installed: `pip install triton`")

import triton.language as tl

from unianimate_kernels.ssd_scan import triton as backward
from unianimate_kernels.ssd_scan import triton_forward as forward

STRIDES = ("i64:16",) * 4


def describe(kernel, activation, carries, frames):
    """Arguments of one kernel at P = N = 64 with all options; states only where it carries them."""
    tensor, state = (activation, *STRIDES), "*fp32" if carries else None
    given = {"x": tensor, "dt": tensor[:4], "B": tensor, "C": tensor, "z": tensor, "grad": tensor}
    given |= dict.fromkeys(("A_ptr", "D_ptr", "bias_ptr", "dA_ptr", "dD_ptr", "dbias_ptr"), "*fp32")
    given |= dict.fromkeys(("out_ptr", "dx_ptr", "ddt_ptr", "dz_ptr"), activation)
    given |= dict.fromkeys(("dB_ptr", "dC_ptr"), "*fp32")
    states = ("initial_ptr", "state_ptr", "entries_ptr", "exits_ptr", "start_ptr", "states_ptr")
    given |= dict.fromkeys(states, state)
    given |= dict.fromkeys(("F", "space", "heads", "shared"), "i32")
    given |= {"P": "i32:16", "N": "i32:16", "REVERSE": False, "SOFTPLUS": True, "T": frames}
    is_backward = kernel is backward.backward_kernel
    given["CHANNELS"] = backward.BACKWARD_CHANNELS if is_backward else forward.CHANNELS
    given |= {"steps": "i32", "ADJOINT": True, "PRECISION": "tf32x3" if carries else "ieee"}
    given["STATES"] = forward.STATES
    return {parameter.name: given[parameter.name] for parameter in kernel.params}


# kernel, states, frames of a chunk, registers; sm_80 takes the most
CASES = [
    (forward.forward_kernel, False, 16, 168),
    (forward.forward_kernel, False, 32, 255),
    (forward.forward_kernel, True, 32, 255),
    (backward.sweep_kernel, True, 16, 160),
    (backward.backward_kernel, False, 16, 136),
    (backward.backward_kernel, True, 16, 255),
]


def check(arch, kernel, carries, frames, registers, activation):
    arguments = describe(kernel, activation, carries, frames)
    compiled = aot.compile_kernel(kernel, arch, arguments, num_warps=forward.WARPS, num_stages=1)
    aot.check(compiled, registers=registers)


@pytest.mark.parametrize(("kernel", "carries", "frames", "registers"), CASES)
def test_triton_kernels_stay_in_registers(kernel, carries, frames, registers):
    check(90, kernel, carries, frames, registers, "*bf16")


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["*fp32", "*fp16", "*bf16"])
@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize(("kernel", "carries", "frames", "registers"), CASES)
def test_triton_kernels_stay_in_registers_everywhere(
    kernel, carries, frames, registers, arch, activation
):
    check(arch, kernel, carries, frames, registers, activation)


# frames of the clip, states, initial state given, final one asked for, registers of bfloat16 on
# sm_90 (168 leave room for three programs of four warps), and of both half dtypes anywhere
HALF_CASES = [
    (16, 64, False, False, 152, 176),
    (17, 64, False, False, 152, 176),
    (32, 64, False, False, 152, 192),
    (33, 64, False, False, 152, 192),
    (65, 64, False, False, 176, 255),
    (128, 64, False, False, 168, 255),
    (129, 64, False, False, 168, 255),
    (128, 128, False, False, 255, 255),
    (129, 64, True, False, 168, 255),
    (17, 64, True, True, 168, 255),
    (16, 128, False, True, 255, 255),
]
HALF_NAMES = ("frames", "d_state", "given", "asked", "registers", "anywhere")


def check_half(arch, frames, d_state, given, asked, registers, dtype):
    x = torch.empty(1, frames, 6144, 10, 64, dtype=dtype, device="meta")
    B = torch.empty(1, frames, 6144, 1, d_state, dtype=dtype, device="meta")
    options = forward.half_options(x, B, (given, asked), None)
    assert options.carries == (given or asked or frames > 65)
    _, constants = forward.half_tiles(x, B, options)
    assert constants["OPERAND"] == (tl.bfloat16 if dtype == torch.bfloat16 else tl.float32)
    assert constants["LEAD"] == frames % 2
    kernel = forward.carrying_kernel if options.carries else forward.single_kernel
    launched = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
    activation = "*bf16" if dtype == torch.bfloat16 else "*fp16"
    tensor = (activation, *STRIDES)
    arguments = {**constants, "dt": tensor[:4], "out_ptr": activation, "P": "i32:16", "N": "i32:16"}
    arguments |= dict.fromkeys(("x", "B", "C", "z", "out"), tensor)
    arguments |= dict.fromkeys(("A_ptr", "D_ptr", "bias_ptr"), "*fp32")
    arguments |= {"initial_ptr": "*fp32" if given else None}
    arguments |= {"final_ptr": "*fp32" if asked else None}
    arguments |= dict.fromkeys(("F", "space", "heads", "shared", "most"), "i32")
    arguments |= {"REVERSE": True, "SOFTPLUS": True}
    arguments = {parameter.name: arguments[parameter.name] for parameter in kernel.params}
    aot.check(aot.compile_kernel(kernel, arch, arguments, **launched), registers=registers)


@pytest.mark.parametrize(HALF_NAMES, HALF_CASES)
def test_half_kernels_stay_in_registers(frames, d_state, given, asked, registers, anywhere):
    check_half(90, frames, d_state, given, asked, registers, torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize(HALF_NAMES, HALF_CASES)
def test_half_kernels_stay_in_registers_everywhere(
    frames, d_state, given, asked, registers, anywhere, arch, dtype
):
    check_half(arch, frames, d_state, given, asked, anywhere, dtype)
