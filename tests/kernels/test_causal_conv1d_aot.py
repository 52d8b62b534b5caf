"""causal_conv1d's Triton kernels compiled without a GPU: no spills, no local memory."""

import pytest

aot = pytest.importorskip("aot", reason="triton is not installed: `pip install triton`")

from unianimate_kernels.causal_conv1d import triton as kernels

CASES = [(kernels.forward_kernel, 64), (kernels.backward_kernel, 168)]


def describe(kernel, activation):
    """Arguments of one kernel with four taps, bias and state."""
    tensor = (activation, "i64:16", "i64:16", "i64:16")
    given = {"x": tensor, "grad_out": tensor, "out_ptr": activation, "dx_ptr": activation}
    pointers = ("weight_ptr", "bias_ptr", "state_ptr", "dstate_ptr", "sums_ptr")
    given |= dict.fromkeys(pointers, "*fp32")
    given |= dict.fromkeys(("F", "S", "tiles", "locations", "run"), "i32")
    given |= {"D": "i32:16", "TAPS": 4, "REVERSE": True, "SILU": True}
    given["CHANNELS"] = kernels.CHANNELS
    return {parameter.name: given[parameter.name] for parameter in kernel.params}


def check(arch, kernel, registers, activation):
    compiled = aot.compile_kernel(kernel, arch, describe(kernel, activation), num_warps=1)
    aot.check(compiled, registers=registers)
    assert compiled.count("BAR") == compiled.count("SHFL") == 0


@pytest.mark.parametrize(("kernel", "registers"), CASES)
def test_triton_kernels_stay_in_registers(kernel, registers):
    check(90, kernel, registers, "*bf16")


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["*fp32", "*fp16", "*bf16"])
@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize(("kernel", "registers"), CASES)
def test_triton_kernels_stay_in_registers_everywhere(kernel, registers, arch, activation):
    check(arch, kernel, registers, activation)
