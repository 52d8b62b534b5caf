"""What a process asks of its device."""

import platform
import subprocess
import sys

import pytest

# of its own: the setting stays with the process
SCRIPT = """
import resource, torch
from unianimate.models.devices import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.ones(2**24)  # 64 MiB, which glibc always maps afresh
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
keep_freed_memory()
for _ in range(3):
    faults()  # the heap grows until a freed tensor fits the next one
print(plain, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_used_again():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plain, kept = map(int, done.stdout.split())
    assert kept < plain / 4, (plain, kept)
