"""The scans' Triton kernels compiled without a GPU: no spills, no shuffles in forward."""

import pytest

aot = pytest.importorskip("aot", reason="triton is not installed: `pip install triton`")

from unianimate_kernels.bidirectional_selective_scan import triton as both_ways
from unianimate_kernels.selective_scan import triton as one_way

D_STATE = 16
FORWARD = (one_way.forward_kernel, both_ways.forward_kernel)
# of a thread: (free, geometric decays)
FORWARD_REGISTERS = (240, 168)
BACKWARD_REGISTERS = (255, 255)


def compile_scan(kernel, arch, activation, *, geometric, absent=()):
    """Compile a kernel with 16 states; ``absent`` pointers are None."""
    states = one_way.FORWARD_STATES if kernel in FORWARD else one_way.BACKWARD_STATES
    flags = {"REVERSE": True, "SOFTPLUS": True, "GEOMETRIC": geometric, "N": D_STATE}
    flags["CHANNELS"] = one_way.channels(D_STATE, states)
    activations = {"out_ptr", "dx_ptr", "ddt_ptr", "dz_ptr"}

    def describe(name):
        if name in flags:
            return flags[name]
        if any(part in name for part in absent):
            return None
        if name.endswith("_ptr"):
            return activation if name in activations else "*fp32"
        if name in ("F", "S", "D", "tiles", "locations", "run", "chunk", "chunks"):
            return "i32:16" if name == "D" else "i32"
        return (activation, "i64:16", "i64:16", "i64:16")

    arguments = {parameter.name: describe(parameter.name) for parameter in kernel.params}
    return aot.compile_kernel(kernel, arch, arguments, num_warps=1)


def check_forward(kernel, arch, activation, geometric):
    # without states, whose layout in memory is not the one in registers
    compiled = compile_scan(
        kernel, arch, activation, geometric=geometric, absent=("initial", "final")
    )
    aot.check(compiled, registers=FORWARD_REGISTERS[geometric])
    assert compiled.count("SHFL") == compiled.count_in_loops("BAR") == 0
    # softplus and the gate take five of each of the four channels of a thread
    sweeps = 1 if kernel is one_way.forward_kernel else 2
    exponentials = 4 * (1 if geometric else D_STATE)
    assert compiled.count_in_loops("MUFU.EX2") <= sweeps * (exponentials + 4) + 4
    if kernel is one_way.forward_kernel:
        assert compiled.count("BAR") == 0
        with_states = compile_scan(kernel, arch, activation, geometric=geometric)
        aot.check(with_states, registers=FORWARD_REGISTERS[geometric])
        assert with_states.count_in_loops("SHFL") == with_states.count_in_loops("BAR") == 0


def check_backward(arch, activation, geometric, absent):
    compiled = compile_scan(
        one_way.backward_kernel, arch, activation, geometric=geometric, absent=absent
    )
    aot.check(compiled, registers=BACKWARD_REGISTERS[geometric])
    assert compiled.count_in_loops("BAR") == 0
    # five for each sum over 32 lanes: dB and dC
    assert compiled.count_in_loops("SHFL") == 2 * 5 * D_STATE


# with states; with what the other direction left; the two never meet
VARIANTS = [("addend",), ("initial", "final")]


@pytest.mark.parametrize("geometric", [False, True], ids=["free", "geometric"])
@pytest.mark.parametrize("kernel", FORWARD, ids=["one_way", "both_ways"])
def test_forward_keeps_states_in_their_threads(kernel, geometric):
    check_forward(kernel, 90, "*bf16", geometric)


@pytest.mark.parametrize("geometric", [False, True], ids=["free", "geometric"])
def test_backward_stays_in_registers(geometric):
    check_backward(90, "*bf16", geometric, VARIANTS[0])


@pytest.mark.slow
@pytest.mark.parametrize("geometric", [False, True], ids=["free", "geometric"])
@pytest.mark.parametrize("activation", ["*fp32", "*fp16", "*bf16"])
@pytest.mark.parametrize("arch", aot.ARCHITECTURES)
def test_every_kernel_everywhere(arch, activation, geometric):
    for kernel in FORWARD:
        check_forward(kernel, arch, activation, geometric)
    for absent in VARIANTS:
        check_backward(arch, activation, geometric, absent)
