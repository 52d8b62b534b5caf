import aot
import pytest

from unianimate_kernels.geglu import triton as op

# most registers: the backward pass reads three tensors and writes two
CAPS = {"_forward_kernel": 48, "_backward_kernel": 64}


@pytest.mark.parametrize("arch", aot.ARCHITECTURES)
@pytest.mark.parametrize("width", [320, 1280, 5120])
@pytest.mark.parametrize(
    "kernel", [op._forward_kernel, op._backward_kernel], ids=lambda kernel: kernel.__name__
)
def test_kernels_compile_without_spills(kernel, width, arch):
    tile = op.tile_of(width)
    warps = tile.pop("num_warps")
    known = {"x_ptr": "*bf16", "out_ptr": "*bf16", "grad_ptr": "*bf16", "x_stride": "i64:16"}
    arguments = {p.name: known.get(p.name, "i32:16") for p in kernel.params} | tile
    compiled = aot.compile_kernel(kernel, arch, arguments, num_warps=warps)
    aot.check(compiled, registers=CAPS[kernel.__name__])
    # 16 bytes at once: the value and the gate are a multiple of 16 columns apart
    if kernel is op._forward_kernel:
        loads = [opcode for _, opcode, _ in compiled.instructions if opcode.startswith("LDG")]
        assert loads and all(".128" in load for load in loads)
