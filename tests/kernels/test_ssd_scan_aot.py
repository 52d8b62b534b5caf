"""ssd_scan's GPU kernels compiled without a GPU: no spills, no local memory, bounded registers."""

import pytest

aot = pytest.importorskip("aot", reason="triton is not installed: `pip install triton`")

from unianimate_kernels.ssd_scan import triton as kernels  # noqa: E402

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
    backward = kernel is kernels.backward_kernel
    given["CHANNELS"] = kernels.BACKWARD_CHANNELS if backward else kernels.CHANNELS
    given |= {"steps": "i32", "ADJOINT": True, "PRECISION": "tf32x3" if carries else "ieee"}
    given["STATES"] = kernels.STATES
    return {parameter.name: given[parameter.name] for parameter in kernel.params}


# kernel, states, frames of a chunk, registers; sm_80 takes the most
CASES = [
    (kernels.forward_kernel, False, 16, 168),
    (kernels.forward_kernel, False, 32, 255),
    (kernels.forward_kernel, True, 32, 255),
    (kernels.sweep_kernel, True, 16, 160),
    (kernels.backward_kernel, False, 16, 136),
    (kernels.backward_kernel, True, 16, 255),
]


def check(arch, kernel, carries, frames, registers, activation):
    arguments = describe(kernel, activation, carries, frames)
    compiled = aot.compile_kernel(kernel, arch, arguments, num_warps=kernels.WARPS, num_stages=1)
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
