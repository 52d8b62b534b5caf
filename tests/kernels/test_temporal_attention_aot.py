import aot
import pytest
import torch

from unianimate_kernels.temporal_attention import triton as op

KERNELS = (op._forward_kernel, op._backward_kernel, op._backward_queries_kernel)
NAMES = [kernel.__name__ for kernel in KERNELS]
TENSORS = {"q_ptr", "k_ptr", "v_ptr", "out_ptr", "grad_ptr", "dq_ptr", "dk_ptr", "dv_ptr"}
TYPES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}
# most registers of: forward, backward, backward of q; sm_80 has no wgmma and takes the most
CAPS = {"_forward_kernel": 160, "_backward_kernel": 255, "_backward_queries_kernel": 208}


def gate(kernel, arch, dtype, frames, dim):
    tile = op.tile_of(torch.empty(1, frames, 1, 1, dim, dtype=dtype))
    warps = tile.pop("num_warps")
    known = {
        **dict.fromkeys(TENSORS, TYPES[dtype]),
        "lse_ptr": "*fp32",
        "scale": "fp32",
        "slope_scale": "fp32",
        "WITH_QUERIES": frames <= tile["TILE"],
        **tile,
    }
    arguments = {
        p.name: ("i64:16",) * 4 if p.name.endswith("_strides") else known.get(p.name, "i32")
        for p in kernel.params
    }
    compiled = aot.compile_kernel(kernel, arch, arguments, num_warps=warps)
    aot.check(compiled, registers=CAPS[kernel.__name__])


@pytest.mark.parametrize("arch", aot.ARCHITECTURES)
@pytest.mark.parametrize(
    "kernel", [op._forward_kernel, op._backward_kernel], ids=lambda kernel: kernel.__name__
)
def test_a_clip_in_one_tile_compiles_without_spills(kernel, arch):
    gate(kernel, arch, torch.bfloat16, 17, 64)


@pytest.mark.slow
@pytest.mark.parametrize("arch", aot.ARCHITECTURES)
@pytest.mark.parametrize("frames", [5, 97])
@pytest.mark.parametrize(
    ("dtype", "dim"),
    [(torch.bfloat16, 64), (torch.float16, 40), (torch.float32, 64), (torch.float32, 8)],
)
@pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)
def test_every_kernel_compiles_without_spills(kernel, dtype, dim, frames, arch):
    gate(kernel, arch, dtype, frames, dim)
