"""The install that cannot fail: what is built, when, and what the wheel and the sdist hold."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = Path("unianimate_kernels")


def source_tree(folder: Path) -> Path:
    """Copy what git tracks, so that builds leave nothing in the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def build(folder: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run build_ext as an install does; return the process and the built package."""
    cleared = ("UNIANIMATE_BUILD", "UNIANIMATE_CUDA_ARCHS", "CXX", "CUDA_HOME")
    kept = {k: v for k, v in os.environ.items() if k not in cleared}
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", str(folder)],
        env={**kept, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done, folder / PACKAGE


def report(package: Path) -> dict[str, object]:
    return json.loads((package / "_build.json").read_text())


@pytest.fixture
def quick_compiler(tmp_path: Path) -> str:
    """Return a g++ that does not optimise: kernels are tested as they were installed."""
    compiler = tmp_path / "g++"
    compiler.write_text('#!/bin/sh\nexec g++ "$@" -O0\n')
    compiler.chmod(0o755)
    return str(compiler)


@pytest.fixture
def no_tools(tmp_path: Path) -> str:
    empty = tmp_path / "empty"
    empty.mkdir()
    return str(empty)


def test_off_installs_pure_python_and_says_so(tmp_path):
    done, package = build(tmp_path, UNIANIMATE_BUILD="off")
    assert done.returncode == 0
    assert not list(package.glob("*.so"))
    assert "UNIANIMATE_BUILD=off: reinstall without it" in str(report(package)["cpu"])


def test_without_a_compiler_the_install_goes_on_and_gives_the_reason(tmp_path, no_tools):
    done, package = build(tmp_path, PATH=no_tools, CUDA_HOME=no_tools)
    assert done.returncode == 0, done.stderr
    assert not list(package.glob("*.so"))
    assert "no C++ compiler was found: install g++" in str(report(package)["cpu"])
    assert "no C++ compiler was found" in done.stdout


def test_asked_for_a_library_the_install_fails_without_a_compiler(tmp_path, no_tools):
    done, _ = build(tmp_path, PATH=no_tools, CUDA_HOME=no_tools, UNIANIMATE_BUILD="cpu")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith("unianimate: no C++ compiler was found")


def test_a_broken_compiler_is_reported_not_fatal(tmp_path):
    done, package = build(tmp_path, CXX="false")
    assert done.returncode == 0
    assert "false failed on" in str(report(package)["cpu"])


def test_a_compiler_that_is_not_there_is_reported_not_fatal(tmp_path):
    done, package = build(tmp_path, CXX=str(tmp_path / "g++"), UNIANIMATE_BUILD="")
    assert done.returncode == 0, done.stderr
    assert "g++ does not run: No such file" in str(report(package)["cpu"])


def test_a_broken_linker_is_reported_not_fatal(tmp_path):
    compiler = tmp_path / "g++"
    # what it would compile is empty, linking fails, and asked who it is it says nothing
    refuse = 'case "$*" in *-shared*) exit 3;; --version) exit;; esac'
    write = 'eval ": > \\"\\${$#}\\""'
    compiler.write_text(f"#!/bin/sh\n{refuse}\n{write}\n")
    compiler.chmod(0o755)
    done, package = build(tmp_path, CXX=str(compiler))
    assert done.returncode == 0, done.stderr
    assert "g++ failed on" in str(report(package)["cpu"])
    assert not list(package.glob("*.so*"))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"UNIANIMATE_BUILD": "fast"}, "UNIANIMATE_BUILD='fast': use auto, cpu, cuda or off"),
        (
            {"UNIANIMATE_BUILD": "cuda", "UNIANIMATE_CUDA_ARCHS": "60,90"},
            "UNIANIMATE_CUDA_ARCHS='60,90': 60 is not among 80, 86, 89, 90, 100, 120",
        ),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(tmp_path, environment, message):
    done, _ = build(tmp_path, **environment)
    assert done.returncode != 0
    assert message in done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_the_cpu_library_is_built_without_cuda(tmp_path, quick_compiler):
    done, package = build(tmp_path, UNIANIMATE_BUILD="cpu", CXX=quick_compiler)
    assert done.returncode == 0, done.stderr
    assert report(package)["compiler"] == quick_compiler
    assert (package / "libunianimate_kernels.so").is_file()
    assert report(package)["cpu"] is None
    assert "UNIANIMATE_BUILD=cpu" in str(report(package)["cuda"])


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc was not found on this machine")
@pytest.mark.slow
def test_cuda_is_built_for_named_architectures_without_a_gpu(tmp_path, quick_compiler):
    done, package = build(
        tmp_path, UNIANIMATE_BUILD="cuda", UNIANIMATE_CUDA_ARCHS="90", CXX=quick_compiler
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert report(package)["cuda_archs"] == ["90"]
    code = (
        "import ctypes, sys; library = ctypes.CDLL(sys.argv[1]);"
        "library.selective_scan_forward_cuda; library.selective_scan_forward_avx2"
    )
    path = str(package / "libunianimate_kernels.so")
    subprocess.run([sys.executable, "-c", code, path], check=True)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="copies what git tracks")
@pytest.mark.slow
def test_wheel_and_sdist_hold_what_they_must_and_the_wheel_works_alone(tmp_path, quick_compiler):
    tree = source_tree(tmp_path / "tree")
    build_both = [sys.executable, "-m", "build", "--outdir", str(tmp_path / "dist"), str(tree)]
    environment = {**os.environ, "CXX": quick_compiler}
    subprocess.run(build_both, check=True, capture_output=True, env=environment)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")

    assert "-py3-none-" in wheel.name
    inside = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "unianimate/py.typed",
        "unianimate_kernels/libunianimate_kernels.so",
        "unianimate_kernels/_build.json",
        "unianimate_kernels/selective_scan/README.md",
    ):
        assert wanted in inside
    assert not [name for name in inside if name.endswith((".cpp", ".cu", ".h"))]
    assert {name.split("/")[0].split("-")[0] for name in inside} == {
        "unianimate",
        "unianimate_kernels",
    }
    with tarfile.open(sdist) as archive:
        packed = {name.split("/", 1)[-1] for name in archive.getnames()}
    for wanted in ("setup.py", "constraints.txt", "Makefile", "kernels/csrc/api.h", "LICENSE"):
        assert wanted in packed
    assert not [name for name in packed if name.endswith((".so", "_build.json"))]

    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True)
    # torch and the rest are borrowed from this environment: they are not what is tested
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    code = (
        "import torch, unianimate, unianimate_kernels as k\n"
        "from unianimate_kernels import _library\n"
        f"assert k.__file__.startswith({str(site)!r}), k.__file__\n"
        "assert _library.cpu_off is None, _library.cpu_off\n"
        "x = torch.randn(3, 8)\n"
        "got, wanted = k.geglu(x, backend='native'), k.geglu(x, backend='reference')\n"
        "torch.testing.assert_close(got, wanted)\n"
    )
    subprocess.run([python, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)
    shown = subprocess.run(
        [tmp_path / "venv" / "bin" / "unianimate", "info"], capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert "selective_scan" in shown.stdout
