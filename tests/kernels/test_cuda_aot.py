"""What nvcc makes of every CUDA kernel: no spills, no local memory, registers under a cap.

Occupancy follows from the caps: 65536 registers an SM, so 128 let 8 blocks of 64 threads or 2 of
256 run at once. The scans' loop over frames runs without barriers and shuffles.
"""

import re

import cuda_aot
import pytest

pytestmark = pytest.mark.skipif(
    cuda_aot.skip_reason() is not None, reason=str(cuda_aot.skip_reason())
)

# of a kernel's registers, by the beginning of its name; others have the last one
REGISTER_CAPS = {
    "scan_forward": 128,
    "scan_backward": 128,
    "sum_": 64,
    "ssd_sum_shares": 64,
    # of group_norm_silu, in blocks of 256 threads: 4 blocks at once, or 3 of the backward passes
    **dict.fromkeys(("moments_", "fold_", "apply_"), 64),
    **dict.fromkeys(("slopes_", "input_"), 80),
    "": 128,
}
SOURCES = {path.parent.name: path for path in cuda_aot.cuda_sources()}
# every dtype and direction of the scans is the same code: one source and architecture by default
QUICK = [("selective_scan", "90")]
TARGETS = [
    pytest.param(op, arch, marks=[] if (op, arch) in QUICK else pytest.mark.slow)
    for op in SOURCES
    for arch in ("80", "90")
]


def register_cap(kernel: cuda_aot.Kernel) -> int:
    name = re.sub(r"^void ", "", kernel.name)
    return next(cap for prefix, cap in REGISTER_CAPS.items() if name.startswith(prefix))


@pytest.mark.parametrize(("op", "arch"), TARGETS)
def test_kernels_fit_in_registers(op, arch):
    kernels = cuda_aot.kernels_of(SOURCES[op], arch)
    assert kernels
    for kernel in kernels:
        assert kernel.spills == 0, kernel.name
        assert kernel.stack == 0, kernel.name
        assert kernel.shared <= 32 * 1024, kernel.name  # as cuda.h counts on
        assert kernel.count("LDL") + kernel.count("STL") == 0, kernel.name
        assert kernel.registers <= register_cap(kernel), kernel.name


@pytest.mark.parametrize(
    ("op", "arch"), [t for t in TARGETS if t.values[0].endswith("selective_scan")]
)
def test_the_loop_over_frames_of_a_scan_has_no_barrier_and_no_shuffle(op, arch):
    kernels = [k for k in cuda_aot.kernels_of(SOURCES[op], arch) if "scan_forward" in k.name]
    assert len(kernels) == 6  # three dtypes, free and geometric decays
    for kernel in kernels:
        assert kernel.count("SHFL") == 0, kernel.name
        assert kernel.count_in_loops("BAR", "MUFU.EX2") == 0, kernel.name
        # two channels of 16 states, and softplus and gate of both
        exponentials = 14 if "true" in kernel.name else 36
        assert kernel.count_in_loops("MUFU.EX2") == exponentials, kernel.name


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["80", "90"])
def test_group_norm_reads_16_bytes_a_thread_and_several_rows_at_once(arch):
    kernels = cuda_aot.kernels_of(SOURCES["group_norm_silu"], arch)
    wide = [k for k in kernels if re.search(r"(moments|apply)_kernel<\w+, (8|4), true>", k.name)]
    assert len(wide) == 6  # three dtypes
    for kernel in wide:
        assert kernel.count_in_loops("LDG.E.128", "LDG.E.128") >= 4, kernel.name
        if "apply" in kernel.name:
            assert kernel.count_in_loops("STG.E.128", "STG.E.128") >= 4, kernel.name
