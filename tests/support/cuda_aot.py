"""Compile CUDA sources without a GPU and read what ptxas made of every kernel.

``kernels_of(source, "90")`` compiles ``csrc/<op>/cuda.cu`` with the flags of ``setup.py`` and
returns one `Kernel` for each ``__global__`` function: registers, spills, stack, shared memory and
the SASS instructions. Use it behind ``pytest.mark.skipif(skip_reason() is not None, ...)``.
"""

import ast
import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "kernels" / "csrc"


Instruction = tuple[int, str, str]


@dataclass(frozen=True)
class Kernel:
    """One compiled ``__global__`` function; sizes in bytes.

    Attributes:
        name: demangled, with template arguments.
        registers: a thread's registers.
        spills: bytes of spill stores and loads.
        stack: a thread's local memory: arrays that did not fit in registers, and spills.
        shared: static shared memory of a block.
        disassemble: returns the instructions; a second or so.
    """

    name: str
    registers: int
    spills: int
    stack: int
    shared: int
    disassemble: Callable[[], tuple[Instruction, ...]]

    @functools.cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """(address, opcode with modifiers, operands) of all, in order."""
        return self.disassemble()

    def count(self, opcode: str) -> int:
        """Count the instructions ``opcode``, with any modifiers: "MUFU" or "MUFU.EX2"."""
        return _count(self.instructions, opcode)

    def innermost_loops(self) -> list[tuple[Instruction, ...]]:
        """Return the instructions of every loop that holds no other loop."""
        ranges = []
        for address, opcode, operands in self.instructions:
            target = re.search(r"0x([0-9a-f]+)", operands)
            if opcode.split(".")[0] == "BRA" and target and int(target[1], 16) < address:
                ranges.append((int(target[1], 16), address))
        inner = [
            (first, last)
            for first, last in ranges
            if not any(first <= f and el <= last and (f, el) != (first, last) for f, el in ranges)
        ]
        return [tuple(i for i in self.instructions if a <= i[0] <= b) for a, b in inner]

    def count_in_loops(self, opcode: str, with_opcode: str = "") -> int:
        """Count ``opcode`` in the innermost loops that hold ``with_opcode`` (any if empty)."""
        loops = self.innermost_loops()
        return sum(_count(i, opcode) for i in loops if not with_opcode or _count(i, with_opcode))


def _count(instructions: tuple[Instruction, ...], opcode: str) -> int:
    return sum(name == opcode or name.startswith(opcode + ".") for _, name, _ in instructions)


def skip_reason() -> str | None:
    """Return why nothing can be compiled here, or None."""
    if _nvcc() is None:
        return "nvcc was not found: install the CUDA toolkit to run the CUDA compile gates"
    if cuobjdump() is None:
        return "cuobjdump was not found: install triton, which carries it"
    return None


def cuda_sources() -> list[Path]:
    """Return the CUDA sources of all ops."""
    return sorted(CSRC.glob("*/cuda.cu"))


@functools.cache
def kernels_of(source: Path, arch: str, *flags: str) -> tuple[Kernel, ...]:
    """Compile ``source`` for ``sm_<arch>`` and describe its kernels.

    Raises:
        AssertionError: nvcc refused the source; the message is nvcc's.
    """
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        command = [str(_nvcc()), *_nvcc_flags(), *flags, f"-arch=sm_{arch}", "-cubin"]
        command += ["-Xptxas=-v", str(source), "-o", str(cubin)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        sass = _output(str(cuobjdump()), "-sass", str(cubin))
    instructions = read_sass(sass)
    usage = _usage(done.stdout + done.stderr)
    names = dict(zip(usage, _demangle(list(usage)), strict=True))
    return tuple(
        Kernel(names[symbol], *numbers, disassemble=functools.partial(instructions.get, symbol))
        for symbol, numbers in usage.items()
    )


def _usage(log: str) -> dict[str, tuple[int, int, int, int]]:
    """Read symbol -> registers, spills, stack, shared from the report of ``ptxas -v``."""
    usage = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        symbol = part.split("'", 1)[0]

        def number(pattern: str, part: str = part) -> int:
            return sum(int(found) for found in re.findall(pattern, part))

        usage[symbol] = (
            number(r"Used (\d+) registers"),
            number(r"(\d+) bytes spill"),
            number(r"(\d+) bytes stack frame"),
            number(r"(\d+) bytes smem"),
        )
    return usage


def read_sass(sass: str) -> dict[str, tuple[Instruction, ...]]:
    """Read symbol -> instructions from the listing of ``cuobjdump -sass``."""
    line = re.compile(r"^\s+/\*([0-9a-f]+)\*/\s+(?:@!?\w+\s+)?([A-Z][A-Z0-9_.]*)([^;]*);", re.M)
    listing = {}
    for part in re.split(r"Function : ", sass)[1:]:
        symbol, body = part.split("\n", 1)
        listing[symbol.strip()] = tuple(
            (int(a, 16), op, rest) for a, op, rest in line.findall(body)
        )
    return listing


def _demangle(symbols: list[str]) -> list[str]:
    tool = shutil.which("c++filt") or shutil.which("cu++filt")
    if tool is None or not symbols:
        return symbols
    names = _output(tool, *symbols).splitlines()
    return [name.replace("(anonymous namespace)::", "") for name in names]


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _nvcc() -> str | None:
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def cuobjdump() -> str | None:
    """Return the path of cuobjdump: the one triton carries, else one on the PATH."""
    found = importlib.util.find_spec("triton")
    if found is not None and found.origin is not None:
        carried = Path(found.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        if carried.is_file():
            return str(carried)
    return shutil.which("cuobjdump")


def _nvcc_flags() -> list[str]:
    """Read NVCC_FLAGS from ``setup.py``, which cannot be imported."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NVCC_FLAGS":
            flags: list[str] = ast.literal_eval(node.value)
            return flags
    raise AssertionError("setup.py has no NVCC_FLAGS")
