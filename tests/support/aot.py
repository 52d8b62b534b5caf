"""Compile Triton kernels without a GPU and read what ptxas made of them.

``compile_kernel(kernel, 90, {"x_ptr": "*bf16", "F": "i32", "BD": 128, ...}, num_warps=1)``
compiles a ``@triton.jit`` function for sm_90 and returns a `cuda_aot.Kernel`: registers, local
and shared memory and the SASS. ``check`` holds one against the limits that every kernel has.
Not for the interpreter: the kernels must be decorated without ``TRITON_INTERPRET``.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

import triton
from cuda_aot import Instruction, Kernel, cuobjdump, read_sass
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

ARCHITECTURES = (80, 90, 100)


def compile_kernel(
    kernel: Any, arch: int, arguments: Mapping[str, Any], *, num_warps: int, num_stages: int = 3
) -> Kernel:
    """Compile ``kernel`` for ``sm_<arch>`` and describe it.

    Args:
        kernel: a ``@triton.jit`` function.
        arch: 80, 90 or 100.
        arguments: one entry a parameter. A string is the type of a run-time argument: "*fp32",
            "*bf16", "*fp16", "*i64" for pointers (taken to be aligned to 16 bytes, as torch
            allocates them), "fp32", "i32", "i64"; "i64:16" is an integer divisible by 16. A tuple
            holds the types of a tuple. Anything else, and everything given to a ``constexpr``
            parameter, is a constant; None is an absent pointer.
        num_warps: as in a launch.
        num_stages: as in a launch.
    """
    signature: dict[str, Any] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}

    def describe(path: tuple[int, ...], value: Any, constant: bool) -> Any:
        if isinstance(value, tuple) and not constant:
            return tuple(describe((*path, i), part, False) for i, part in enumerate(value))
        if constant or not isinstance(value, str):
            constants[path] = value
            return "constexpr"
        kind, _, divisor = value.partition(":")
        if kind.startswith("*") or divisor:
            attributes[path] = [["tt.divisibility", int(divisor or 16)]]
        return kind

    for index, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        signature[parameter.name] = describe((index,), value, parameter.is_constexpr)
    unknown = arguments.keys() - signature.keys()
    assert not unknown, f"{kernel.__name__} has no parameters {sorted(unknown)}"
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, attributes),
        target=GPUTarget("cuda", arch, 32),
        options={"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": True},
    )
    usage = _cuobjdump("-res-usage", compiled.asm["cubin"])

    def number(name: str) -> int:
        return int(re.search(rf"\b{name}:(\d+)", usage)[1])

    def disassemble() -> tuple[Instruction, ...]:
        (instructions,) = read_sass(_cuobjdump("-sass", compiled.asm["cubin"])).values()
        return instructions

    # what ptxas spills it puts into local memory: where there is none, nothing is spilled
    local = number("STACK") + number("LOCAL")
    moved = [_local_bytes(opcode) for _, opcode, _ in disassemble()] if local else []
    return Kernel(
        name=kernel.__name__,
        registers=number("REG"),
        spills=sum(moved),
        stack=local,
        # Triton's shared memory is dynamic: the launch asks for it
        shared=compiled.metadata.shared,
        disassemble=disassemble,
    )


def check(kernel: Kernel, *, registers: int) -> None:
    """Assert: no spills, no local memory, at most ``registers`` registers a thread."""
    assert kernel.spills == 0, f"{kernel.name} moves {kernel.spills} bytes of local memory"
    assert kernel.stack == 0, f"{kernel.name} has {kernel.stack} bytes of local memory"
    assert kernel.registers <= registers, f"{kernel.name} takes {kernel.registers} registers"


def _local_bytes(opcode: str) -> int:
    """Return how many bytes a thread moves from or to local memory."""
    name, *modifiers = opcode.split(".")
    if name not in ("LDL", "STL"):
        return 0
    return next((int(m) // 8 for m in modifiers if m in ("64", "128")), 4)


def _cuobjdump(what: str, cubin: bytes) -> str:
    tool = cuobjdump()
    assert tool is not None, "triton's nvidia backend carries cuobjdump, and it was not found"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [tool, what, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
