"""What a process asks of its device."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from unianimate.models.devices import lay_convolutions_out

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


def convolutions():
    torch.manual_seed(0)
    return nn.ModuleList([nn.Conv2d(4, 6, 3), nn.Conv3d(4, 6, (3, 1, 1)), nn.Linear(4, 6)])


def test_a_gpu_gets_weights_with_their_channels_last(monkeypatch):
    module = convolutions()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    parameters = dict(module.named_parameters())
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    lay_convolutions_out(module)
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert module[2].weight.is_contiguous()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameters[name] is value for name, value in module.named_parameters())


def test_a_cpu_keeps_its_weights_as_they_are():
    module = convolutions()
    addresses = [value.data_ptr() for value in module.parameters()]
    lay_convolutions_out(module)
    assert [value.data_ptr() for value in module.parameters()] == addresses
