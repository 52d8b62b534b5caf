import aot
import pytest

from unianimate_kernels.geglu import triton as op


@pytest.mark.parametrize("arch", aot.ARCHITECTURES)
@pytest.mark.parametrize(
    "kernel", [op._forward_kernel, op._backward_kernel], ids=lambda kernel: kernel.__name__
)
def test_kernels_compile_without_spills(kernel, arch):
    known = {"x_ptr": "*bf16", "out_ptr": "*bf16", "grad_ptr": "*bf16", "x_stride": "i64:16"}
    arguments = {p.name: known.get(p.name, "i32:16") for p in kernel.params} | {"COLUMNS": 1024}
    compiled = aot.compile_kernel(kernel, arch, arguments, num_warps=4)
    aot.check(compiled, registers=48)
