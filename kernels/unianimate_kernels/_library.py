"""Find, load and call the native library: a torch-free C ABI reached by ctypes.

``setup.py`` builds ``libunianimate_kernels.so`` beside this file and leaves ``_build.json``, which
says what was built and why something was not. An entry point ``NAME`` is exported once for each
instruction set of the CPU (``NAME_avx512``, ``NAME_avx2``, ``NAME_generic``) and as ``NAME_cuda``.
"""

import ctypes
import json
import re
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

_ABI_VERSION = 2
_FOLDER = Path(__file__).parent
_PATH = _FOLDER / "libunianimate_kernels.so"
_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float64: 2, torch.float16: 3}
_MAX_AXES = 4
Strides = ctypes.c_int64 * _MAX_AXES


class Array(ctypes.Structure):
    """``ua_array``: a pointer and the element strides of all axes but the last, which is dense."""

    _fields_: ClassVar = [("data", ctypes.c_void_p), ("stride", Strides)]


class Arguments(ctypes.Structure):
    """``ua_call``, the head of every argument block; an op appends its own fields."""

    _fields_: ClassVar = [
        ("size", ctypes.c_int64),
        ("dtype", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("device", ctypes.c_int64),
        ("stream", ctypes.c_void_p),
    ]


def array(tensor: Tensor | None) -> Array:
    """Describe an activation for the library; None and an empty tensor become a null pointer."""
    if tensor is None or tensor.numel() == 0:
        return Array()
    return Array(tensor.data_ptr(), Strides(*tensor.stride()[:-1]))


def pointer(tensor: Tensor | None) -> int | None:
    """Return the address of a contiguous tensor, or None for None and an empty tensor."""
    return None if tensor is None or tensor.numel() == 0 else tensor.data_ptr()


def call(entry: str, arguments: Arguments, like: Tensor) -> None:
    """Run ``entry`` on the device of ``like``, in its dtype and on torch's current stream.

    Raises:
        RuntimeError: the library refused; the message is its own, headed by the entry's name.
    """
    arguments.size = ctypes.sizeof(arguments)
    arguments.dtype = _DTYPES[like.dtype]
    if like.is_cuda:
        arguments.device = like.device.index
        arguments.stream = torch.cuda.current_stream(like.device).cuda_stream
        function = _function(f"{entry}_cuda")
    else:
        arguments.threads = torch.get_num_threads()
        # the avx512 code has no float64, which is there for gradcheck
        wide = cpu_level == "avx512" and like.dtype == torch.float64
        function = _function(f"{entry}_{'avx2' if wide else cpu_level}")
    message = function(ctypes.byref(arguments))
    if message is not None:
        raise RuntimeError(f"{entry}: {message.decode()}{_cure(message, like.device)}")


def _cure(message: bytes, device: torch.device) -> str:
    """Return what helps against an error of the library, or nothing."""
    if b"no kernel image" not in message:
        return ""
    archs = ", ".join(f"sm_{arch}" for arch in build_report().get("cuda_archs", []))
    return (
        f" ({device}): the CUDA code was built for {archs}; reinstall the package on this machine, "
        "or set UNIANIMATE_BACKEND=triton"
    )


def _function(symbol: str) -> Any:
    function = _functions.get(symbol)
    if function is None:
        function = getattr(library, symbol)
        function.argtypes = [ctypes.c_void_p]
        function.restype = ctypes.c_char_p
        _functions[symbol] = function
    return function


def has(entry: str, suffix: str) -> bool:
    """Say whether the library exports ``entry`` for an instruction set or for ``"cuda"``."""
    return library is not None and hasattr(library, f"{entry}_{suffix}")


def native_off(entry: str) -> dict[str, str]:
    """Return device type -> why the native library does not serve ``entry`` there."""
    off = {}
    if cpu_off is not None:
        off["cpu"] = cpu_off
    elif not has(entry, cpu_level):
        off["cpu"] = f"the library has no {cpu_level} form of {entry}: reinstall the package"
    if cuda_off is not None:
        off["cuda"] = cuda_off
    elif not has(entry, "cuda"):
        off["cuda"] = f"the library has no CUDA form of {entry}: reinstall the package"
    return off


def bfloat16_products() -> bool:
    """Say whether the CPU code multiplies bfloat16 by instructions made for it."""
    return _bfloat16_products and cpu_level == "avx512"


def build_report() -> dict[str, Any]:
    """Return what ``setup.py`` wrote about the build; empty if the package was never built."""
    path = _FOLDER / "_build.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _load() -> tuple[ctypes.CDLL | None, str, str | None, str | None]:
    """Return the library, the instruction set in use, why the CPU is off and why CUDA is off."""
    report = build_report()
    if not _PATH.is_file():
        reason = report.get("cpu") or "it was never built: run `pip install .` in the source folder"
        return None, "", reason, report.get("cuda") or reason
    try:
        found = ctypes.CDLL(str(_PATH))
    except OSError as error:
        reason = f"the library does not load ({error}): reinstall the package"
        return None, "", reason, reason
    found.ua_abi_version.restype = ctypes.c_int64
    version = found.ua_abi_version()
    if version != _ABI_VERSION:
        reason = f"the library has ABI {version}, wanted {_ABI_VERSION}: reinstall the package"
        return None, "", reason, reason
    _share_thread_pool(found)
    found.ua_cpu_level.restype = ctypes.c_char_p
    found.ua_cpu_bfloat16.restype = ctypes.c_int64
    level = (found.ua_cpu_level() or b"").decode()
    cpu = None if level else "this CPU has no AVX2, which the library was built for"
    return found, level, cpu, report.get("cuda")


def _share_thread_pool(found: ctypes.CDLL) -> None:
    """Let the library fork on the OpenMP threads torch already has, not on a second pool."""
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return
    # address, rights, offset, device, inode and the path, which may have spaces
    mapped = (line.split(maxsplit=5) for line in maps.read_text().splitlines())
    for path in dict.fromkeys(fields[5] for fields in mapped if len(fields) == 6):
        if not re.match(r"(libgomp|libiomp5|libomp)[^/]*\.so", Path(path).name):
            continue
        try:
            pool = ctypes.CDLL(path)
        except OSError:  # replaced since it was loaded
            continue
        if hasattr(pool, "GOMP_parallel"):
            found.ua_set_fork(ctypes.cast(pool.GOMP_parallel, ctypes.c_void_p))
            return


_functions: dict[str, Any] = {}
library, cpu_level, cpu_off, cuda_off = _load()
# asked once: a compiler cannot trace a call into the library
_bfloat16_products = bool(library is not None and library.ua_cpu_bfloat16())
