import aot
import pytest
import torch

from unianimate_kernels.temporal_attention import triton as op

KERNELS = (op._forward_kernel, op._backward_kernel, op._backward_queries_kernel)
NAMES = [kernel.__name__ for kernel in KERNELS]
TENSORS = {"q_ptr", "k_ptr", "v_ptr", "out_ptr", "grad_ptr", "dq_ptr", "dk_ptr", "dv_ptr"}
TYPES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}
# most registers with Triton 3.9: of several tiles, which float16 with head_dim 40 takes on sm_80.
# Triton 3.6 takes up to 225, 255 and 255, and spills none either.
CAPS = {"_forward_kernel": 192, "_backward_kernel": 255, "_backward_queries_kernel": 208}
# of a forward pass in one tile
ONE_TILE_CAP = 128


def gate(kernel, arch, dtype, frames, dim, *, lse="*fp32", far=False, cap=None):
    forward = kernel is op._forward_kernel
    q = torch.empty(1, frames, 1, 1, dim, dtype=dtype)
    tile = op.forward_tile(q) if forward else op.backward_tile(q)
    one_tile = frames <= tile["TILE"]
    warps = tile.pop("num_warps")
    known = {
        **dict.fromkeys(TENSORS, TYPES[dtype]),
        "lse_ptr": lse,
        "scale": "fp32",
        "slope_scale": "fp32",
        "WITH_QUERIES": one_tile,
        "ONE_TILE": one_tile,
        "FAR": far,
        # as a launch specialises them; but with Triton 3.6 that spills 8 bytes in float32
        "DIM": "i32" if dim % 16 or dtype == torch.float32 else "i32:16",
        "TILES": 1 if one_tile else "i32",
        **tile,
    }
    stride = "i64:16" if far else "i32:16"
    arguments = {
        p.name: (stride,) * 4 if p.name.endswith("_strides") else known.get(p.name, "i32")
        for p in kernel.params
    }
    compiled = aot.compile_kernel(kernel, arch, arguments, num_warps=warps)
    aot.check(compiled, registers=cap or CAPS[kernel.__name__])


@pytest.mark.parametrize("arch", aot.ARCHITECTURES)
def test_the_backward_pass_of_a_clip_in_one_tile_compiles_without_spills(arch):
    gate(op._backward_kernel, arch, torch.bfloat16, 17, 64)


@pytest.mark.parametrize("arch", aot.ARCHITECTURES)
@pytest.mark.parametrize("lse", [None, "*fp32"], ids=["inference", "training"])
@pytest.mark.parametrize("frames", [16, 17, 33])
def test_a_softmax_in_one_tile_leaves_room_for_many_programs(frames, lse, arch):
    gate(op._forward_kernel, arch, torch.bfloat16, frames, 64, lse=lse, cap=ONE_TILE_CAP)


@pytest.mark.slow
@pytest.mark.parametrize("arch", aot.ARCHITECTURES)
@pytest.mark.parametrize("frames", [5, 33, 97])
@pytest.mark.parametrize(
    ("dtype", "dim"),
    [(torch.bfloat16, 64), (torch.float16, 40), (torch.float32, 64), (torch.float32, 8)],
)
@pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)
def test_every_kernel_compiles_without_spills(kernel, dtype, dim, frames, arch):
    gate(kernel, arch, dtype, frames, dim)


@pytest.mark.slow
@pytest.mark.parametrize("arch", aot.ARCHITECTURES)
@pytest.mark.parametrize("frames", [17, 33, 97])
def test_a_forward_pass_over_far_frames_compiles_without_spills(frames, arch):
    gate(op._forward_kernel, arch, torch.bfloat16, frames, 64, far=True)
