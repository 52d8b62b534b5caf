import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def benchmarks(*options):
    # told that it is one of several workers, pytest-benchmark would time nothing
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "benchmarks", "-q", "-p", "no:cacheprovider"),
            *("-o", "python_files=bench_*.py", "-o", "python_functions=bench_*", *options),
        ],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_what_the_aims_compare_comes_first_and_what_is_compiled_late(scale):
    lines = benchmarks("--collect-only", f"--scale={scale}").splitlines()
    items = [line for line in lines if "::" in line]
    network = "small-step-8" if scale == "cpu" else "full size-step-32"
    assert network in items[0]
    names = (
        "bench_temporal_attention[F=17",
        "bench_pipeline",
        "compiled",
        "F=65 96x64",
        "F=65 12x8",
    )
    found = [[i for i, item in enumerate(items) if n in item] for n in names]
    aim, pipeline, compiled, finest, apart = found
    assert min(aim) < min(pipeline) < min(compiled)
    if scale == "cpu":
        assert min(compiled) == len(items) - len(compiled)
    else:  # sizes apart from those that are compared come after the networks that are compiled
        assert max(finest) < min(compiled) < max(compiled) < min(apart)


@pytest.mark.slow
def test_every_benchmark_runs_on_tiny_shapes_and_is_in_the_report(tmp_path):
    """What needs a GPU runs with the CPU's forms; agreement is asserted inside."""
    benchmarks("--smoke", "--benchmark-quiet", f"--results={tmp_path}")
    found = json.loads((tmp_path / "smoke" / "results.json").read_text())["records"]
    sections = {record["section"] for record in found}
    assert sections == {"ops", "blocks", "unet", "longest clip", "pipeline"}
    ops = {record["extra"].get("op") for record in found if record["section"] == "ops"}
    assert len(ops) == len(list(ROOT.glob("benchmarks/bench_*.py"))) - 4
    assert all(record["seconds"] for record in found if record["section"] != "longest clip")


def test_a_run_of_a_part_is_not_written_over_a_report(tmp_path):
    benchmarks("--smoke", "-k", "rms_norm", "--benchmark-quiet", f"--results={tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["part"]
    assert "rms_norm, F=3 2x2" in (tmp_path / "part" / "README.md").read_text()
