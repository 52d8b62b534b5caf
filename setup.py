"""Build the native library of ``unianimate_kernels``; everything else stands in pyproject.toml.

The library is a torch-free C ABI: C++ for the CPU, compiled once for each instruction set, and
CUDA where nvcc is found. Torch is not needed here, so it builds inside pip's isolation.

UNIANIMATE_BUILD=auto|cpu|cuda|off   auto (default): what the tools at hand allow, never an error;
                                     cpu, cuda: fail where that cannot be built; off: pure Python
UNIANIMATE_CUDA_ARCHS=80,90          architectures of the CUDA code; without it those of the
                                     visible GPUs, and no CUDA code where there is none
"""

import json
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
SOURCES = ROOT / "kernels" / "csrc"
PACKAGE = Path("kernels") / "unianimate_kernels"
LIBRARY = "libunianimate_kernels.so"
REPORT = "_build.json"
KNOWN_ARCHS = ("80", "86", "89", "90", "100", "120")

# no -ffast-math: linked into a library it turns on flush-to-zero for the whole process
CXX_FLAGS = [
    *("-std=c++17", "-O2", "-fpeel-loops", "-fPIC", "-fvisibility=hidden", "-pthread", "-Wall"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-psabi"),
]
NVCC_FLAGS = ["-std=c++17", "-O3", "-Xcompiler=-fPIC,-fvisibility=hidden", "-DUA_LEVEL=cuda"]
# float64 serves gradcheck: the avx2 form has it, the avx512 form would only take longer to build
X86_LEVELS = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma",
               "-mprefer-vector-width=512", "-DUA_VECTOR_BYTES=64", "-DUA_NO_FLOAT64"],
    "avx2": ["-mavx2", "-mfma", "-DUA_VECTOR_BYTES=32"],
}  # fmt: skip
OTHER_LEVELS = {"generic": ["-DUA_VECTOR_BYTES=32"]}


class BuildFailure(Exception):
    """A tool is missing or failed; the text says what and what to do."""


def levels() -> dict[str, list[str]]:
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return X86_LEVELS if x86 else OTHER_LEVELS


def run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BuildFailure(f"{command[0]} does not run: {error.strerror}") from error
    if done.returncode != 0:
        print(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
        first = next(
            (s for s in done.stderr.splitlines() if "error" in s), f"exit {done.returncode}"
        )
        raise BuildFailure(f"{Path(command[0]).name} failed on {command[-3]}: {first}")


def cxx() -> list[str]:
    named = os.environ.get("CXX")
    if named:
        return shlex.split(named)
    found = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if found is None:
        raise BuildFailure("no C++ compiler was found: install g++ and reinstall the package")
    return [found]


def nvcc() -> str:
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    found = shutil.which("nvcc") or shutil.which("nvcc", path=str(Path(home) / "bin"))
    if found is None:
        raise BuildFailure(
            "nvcc was not found: install the CUDA toolkit and reinstall the package "
            "(the triton backend serves GPUs without it)"
        )
    return found


def cuda_archs(build: str) -> list[str]:
    named = os.environ.get("UNIANIMATE_CUDA_ARCHS", "")
    archs = [arch.strip().removeprefix("sm_").replace(".", "") for arch in named.split(",")]
    archs = [arch for arch in archs if arch]
    if archs:
        unknown = sorted(set(archs) - set(KNOWN_ARCHS))
        if unknown:
            raise BuildFailure(
                f"UNIANIMATE_CUDA_ARCHS={named!r}: {', '.join(unknown)} is not among "
                f"{', '.join(KNOWN_ARCHS)}"
            )
        return sorted(set(archs), key=int)
    smi = shutil.which("nvidia-smi")
    if smi is not None:
        query = [smi, "--query-gpu=compute_cap", "--format=csv,noheader"]
        listed = subprocess.run(query, capture_output=True, text=True)
        if listed.returncode == 0:
            seen = {line.strip().replace(".", "") for line in listed.stdout.split()}
            archs = sorted(seen & set(KNOWN_ARCHS), key=int)
            if seen and not archs:
                raise BuildFailure(
                    f"the visible GPUs ({', '.join(f'sm_{arch}' for arch in sorted(seen))}) are "
                    f"not among {', '.join(KNOWN_ARCHS)} (triton serves them)"
                )
    if not archs and build == "cuda":
        raise BuildFailure("no supported GPU is visible: name one, as UNIANIMATE_CUDA_ARCHS=90")
    return archs


def header_jobs(objects: Path) -> list[tuple[list[str], Path]]:
    """Return what precompiles the intrinsics for each level: 0.4 s of every file, with GCC."""
    jobs = []
    try:
        version = subprocess.run([*cxx(), "--version"], capture_output=True, text=True).stdout
    except OSError:
        version = ""  # what compiles the first file says what is wrong
    for level, flags in levels().items():
        header = objects / level / "intrinsics.h"
        header.parent.mkdir()
        header.write_text("#if defined(__AVX2__)\n#include <immintrin.h>\n#endif\n")
        command = [*cxx(), *CXX_FLAGS, *flags, "-x", "c++-header", str(header)]
        if "Free Software Foundation" in version:  # untried with others
            jobs.append((command, header.with_name("intrinsics.h.gch")))
    return jobs


def cpu_jobs(objects: Path) -> list[tuple[list[str], Path]]:
    compiler = cxx()
    jobs = [([*compiler, *CXX_FLAGS, "-c", str(SOURCES / "library.cpp")], objects / "library.o")]
    for source in sorted(SOURCES.glob("*/cpu.cpp")):
        for level, flags in levels().items():
            include = ["-include", str(objects / level / "intrinsics.h")]
            options = [*CXX_FLAGS, *flags, *include, f"-DUA_LEVEL={level}"]
            command = [*compiler, *options, "-c", str(source)]
            jobs.append((command, objects / f"{source.parent.name}_{level}.o"))
    return jobs


def cuda_jobs(objects: Path, archs: list[str]) -> list[tuple[list[str], Path]]:
    compiler = nvcc()
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    return [
        (
            [compiler, *NVCC_FLAGS, *targets, "-c", str(source)],
            objects / f"{source.parent.name}_cuda.o",
        )
        for source in sorted(SOURCES.glob("*/*.cu"))
    ]


def compile_all(jobs: list[tuple[list[str], Path]]) -> list[str]:
    # the longest first, so that no core ends up waiting for one of them
    def length(job: tuple[list[str], Path]) -> int:
        return sum(file.stat().st_size for file in Path(job[0][-1]).parent.iterdir())

    ordered = sorted(jobs, key=length, reverse=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(lambda job: run([*job[0], "-o", str(job[1])]), ordered))
    return [str(target) for _, target in jobs]


def link(linker: list[str], objects: list[str], library: Path) -> None:
    partial = library.with_name(library.name + ".partial")
    run([*linker, *objects, "-o", str(partial)])
    partial.replace(library)


def build_library(folder: Path, build: str) -> dict[str, object]:
    """Build into ``folder``; return the report that the package reads at run time."""
    if build not in ("auto", "cpu", "cuda", "off"):
        raise BuildFailure(f"UNIANIMATE_BUILD={build!r}: use auto, cpu, cuda or off")
    report: dict[str, object] = {"cpu": None, "cuda": None, "cuda_archs": [], "build": build}
    if build == "off":
        off = "the package was installed with UNIANIMATE_BUILD=off: reinstall without it"
        return {**report, "cpu": off, "cuda": off}
    if build == "cuda":  # what cannot be built is said before minutes of compiling
        cuda_archs(build)
        nvcc()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        objects = Path(temporary)
        try:
            compile_all(header_jobs(objects))
            for_cpu = compile_all(cpu_jobs(objects))
        except BuildFailure as failure:
            if build != "auto":
                raise
            return {**report, "cpu": str(failure), "cuda": str(failure)}
        host_linker = [*cxx(), "-shared", "-pthread"]
        linker, linked = host_linker, for_cpu
        try:
            if build == "cpu":
                raise BuildFailure(
                    "the package was installed with UNIANIMATE_BUILD=cpu: reinstall without it"
                )
            archs = cuda_archs(build)
            if not archs:
                raise BuildFailure(
                    "no GPU was visible at installation: reinstall on a machine with one, or name "
                    "architectures, as UNIANIMATE_CUDA_ARCHS=90 (triton serves GPUs meanwhile)"
                )
            jobs = cuda_jobs(objects, archs)
            linked = for_cpu + compile_all(jobs)
            linker = [nvcc(), "-shared", "--cudart=static", "-Xcompiler=-pthread"]
            report["cuda_archs"] = archs
        except BuildFailure as failure:
            if build == "cuda":
                raise
            report["cuda"] = str(failure)
        try:
            link(linker, linked, folder / LIBRARY)
        except BuildFailure as failure:
            if build != "auto":
                raise
            report |= {"cuda": report["cuda"] or str(failure), "cuda_archs": []}
            try:
                link(host_linker, for_cpu, folder / LIBRARY)
            except BuildFailure as again:
                return {**report, "cpu": str(again)}
    return {**report, "compiler": cxx()[0], "seconds": round(time.perf_counter() - started, 1)}


class BuildNative(build_ext):
    """Build one shared library that is no Python module, and the report beside it."""

    def run(self) -> None:
        folder = ROOT / PACKAGE if self.inplace else Path(self.build_lib) / PACKAGE.name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            report = build_library(folder, os.environ.get("UNIANIMATE_BUILD") or "auto")
        except BuildFailure as failure:
            raise SystemExit(f"unianimate: {failure}") from None
        if report["cpu"] is not None:
            (folder / LIBRARY).unlink(missing_ok=True)
        (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
        for part in ("cpu", "cuda"):
            print(f"unianimate: native {part}: {report[part] or 'built'}")

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path("unianimate_kernels") / LIBRARY)

    def get_outputs(self) -> list[str]:
        folder = Path(self.build_lib) / PACKAGE.name
        return [str(folder / LIBRARY), str(folder / REPORT)]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class BuildWheel(bdist_wheel):
    """Tag the wheel for the platform alone: the library knows neither Python nor torch."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    # the declaration alone makes setuptools call build_ext and tag the wheel with the platform
    ext_modules=[Extension("unianimate_kernels.native", sources=[], optional=True)],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": BuildWheel},
)
