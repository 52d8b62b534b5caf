"""Run the CUDA code of an op on CPU tensors, so that its numerics are tested without a GPU.

::

    with cuda_emulation.emulated("selective_scan"):
        gates.check(selective_scan, inputs, backend="native", dtype=torch.float16)

``csrc/<op>/cuda.cu`` is compiled by g++ against the headers in ``cuda_emulation/``, which run the
threads of a block as fibers (barriers, shuffles, shared memory; see their ``cuda_runtime.h``), and
takes the place of the op's C++ code: ``native.py``, autograd and the gates run as they are. A
launch takes milliseconds a block: keep grids tiny. What it does not show: speed, alignment,
rounding of the special functions, and races inside one phase between barriers.
"""

import atexit
import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from unianimate_kernels import _library
from unianimate_kernels._dispatch import _BACKENDS, Backend

HEADERS = Path(__file__).parent / "cuda_emulation"
CSRC = Path(__file__).parents[2] / "kernels" / "csrc"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def skip_reason() -> str | None:
    """Return why nothing can be emulated here, or None."""
    if shutil.which("g++") is None or shutil.which("nm") is None:
        return "g++ and nm were not found: install them to run the CUDA code on the CPU"
    return _library.cpu_off


@contextmanager
def emulated(*ops: str) -> Iterator[None]:
    """Let the native backend of ``ops`` run their CUDA code on CPU tensors inside the block.

    Raises:
        AssertionError: g++ refused a source; the message is g++'s.
    """
    functions, native = dict(_library._functions), {op: _BACKENDS[op]["native"] for op in ops}
    try:
        for op in ops:
            _library._functions.update(_entries(op))
            _BACKENDS[op]["native"] = Backend({"cpu": frozenset(DTYPES)}, {})
        yield
    finally:
        _library._functions.clear()
        _library._functions.update(functions)
        for op, backend in native.items():
            _BACKENDS[op]["native"] = backend


@functools.cache
def _entries(op: str) -> dict[str, object]:
    """Compile ``csrc/<op>/cuda.cu``; return the name `_library.call` looks for -> its function."""
    folder = tempfile.mkdtemp(prefix="unianimate-emulated-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = str(Path(folder) / f"{op}.so")
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-DUA_LEVEL=cuda"]
    source = str(CSRC / op / "cuda.cu")
    command = ["g++", *flags, f"-I{HEADERS}", "-x", "c++", source, "-o", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    library = ctypes.CDLL(path)
    listing = subprocess.run(["nm", "-D", path], capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-1] for line in listing.splitlines()]
    entries: dict[str, object] = {}
    for symbol in symbols:
        if symbol.endswith("_cuda"):
            function = getattr(library, symbol)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
            entries[f"{symbol.removesuffix('_cuda')}_{_library.cpu_level}"] = function
    return entries
