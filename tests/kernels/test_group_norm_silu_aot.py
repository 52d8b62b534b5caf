import aot
import pytest

from unianimate_kernels.group_norm_silu import triton as op

KERNELS = {
    op._moments_kernel: 64,
    op._fold_kernel: 80,
    op._apply_kernel: 64,
    op._slopes_kernel: 128,
    op._fold_slopes_kernel: 128,
    op._parameters_kernel: 128,
    op._input_kernel: 128,
}
FLOAT32 = ("sums_ptr", "table_ptr", "mean_ptr", "rstd_ptr")
CONSTANTS = {"MERGED": True, "SILU": True, "ROWS": op._ROWS, "CHANNELS": op._CHANNELS, "WIDTH": 16}


def argument(name: str) -> object:
    if name.endswith("_ptr"):
        return "*fp32" if name in FLOAT32 else "*bf16"
    if name.endswith("_strides"):
        return ("i64:16",) * 4
    known = {"inner": ("i32", "i32"), "eps": "fp32", "x_stride_n": "i64:16", "C": "i32:16"}
    return CONSTANTS.get(name, known.get(name, "i32"))


ARCHITECTURES = [
    a if a == 90 else pytest.param(a, marks=pytest.mark.slow) for a in aot.ARCHITECTURES
]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)
def test_kernels_compile_without_spills(kernel, arch):
    arguments = {p.name: argument(p.name) for p in kernel.params}
    compiled = aot.compile_kernel(kernel, arch, arguments, num_warps=op._WARPS)
    aot.check(compiled, registers=KERNELS[kernel])
