"""Run the Triton tests in Triton's interpreter, all in one process of their own.

Triton chooses at decoration whether it interprets, so interpreted and compiled kernels cannot live
in one process; to start one takes longer than most of the files. By hand:
``TRITON_INTERPRET=1 pytest tests/kernels/interpreted``.
"""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "interpreted"
ROOT = FOLDER.parents[2]


def test_in_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(FOLDER)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
