import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_benchmark_runs_on_tiny_shapes_and_is_in_the_report(tmp_path):
    """What needs a GPU runs with the CPU's forms; agreement is asserted inside."""
    options = ["-o", "python_files=bench_*.py", "-o", "python_functions=bench_*"]
    # told that it is one of several workers, pytest-benchmark would time nothing
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "benchmarks", "-q", "--smoke", *options),
            *("--benchmark-quiet", f"--results={tmp_path}", "-p", "no:cacheprovider"),
        ],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    found = json.loads((tmp_path / "smoke" / "results.json").read_text())["records"]
    sections = {record["section"] for record in found}
    assert sections == {"ops", "blocks", "unet", "longest clip", "pipeline"}
    ops = {record["extra"].get("op") for record in found if record["section"] == "ops"}
    assert len(ops) == len(list(ROOT.glob("benchmarks/bench_*.py"))) - 4
    assert all(record["seconds"] for record in found if record["section"] != "longest clip")
