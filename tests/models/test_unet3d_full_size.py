"""The network of official size: loaded from a mapped file, and run, in less memory than 9 GB."""

import json
import subprocess
import sys

import pytest
import torch
from golden import official_shapes

from unianimate.models.checkpoints.files import write_safetensors

GIGABYTE = 10**9

# a process of its own, so that its peak of resident memory is that of loading and one step
PROGRAM = """
import json, resource, sys, time
import torch
from unianimate.models import UNet3D
from unianimate.models.checkpoints import unet_from_official
from unianimate.models.checkpoints.files import read_checkpoint
from pathlib import Path

state = read_checkpoint(Path(sys.argv[1]))
with torch.device("meta"):
    net = UNet3D()
net.load_state_dict(unet_from_official(state), strict=True, assign=True)
net.eval()
with torch.no_grad():
    conditions = net.encode_conditions(
        torch.randn(1, 77, 1024), num_frames=2, latent_size=(16, 16),
        image_embeds=torch.randn(1, 1, 1024), pose=torch.rand(1, 3, 2, 128, 128),
        reference_pose=torch.rand(1, 3, 128, 128), reference_latents=torch.randn(1, 4, 16, 16),
    )
    start = time.perf_counter()
    prediction = net(torch.randn(1, 4, 2, 16, 16), torch.tensor([500]), conditions)
print(json.dumps({
    "tensors": len(state),
    "parameters": sum(p.numel() for p in net.parameters()),
    "shape": list(prediction.shape),
    "finite": bool(prediction.isfinite().all()),
    "varies": bool(prediction.std() > 0),
    "seconds": time.perf_counter() - start,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""


@pytest.mark.slow
def test_one_step_of_the_official_size(tmp_path):

    # every tensor is a piece of one pool, so that making the file takes no memory
    shapes = official_shapes("unet")
    largest = max(torch.Size(shape).numel() for shape in shapes.values())
    pool = torch.randn(largest, generator=torch.Generator().manual_seed(0)) * 0.03
    state = {k: pool[: torch.Size(shape).numel()].view(shape) for k, shape in shapes.items()}
    path = tmp_path / "official.safetensors"
    write_safetensors(path, state)

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True
    )
    path.unlink()
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(report)
    assert report["tensors"] == 1544
    assert report["parameters"] == 1_416_564_300
    assert report["shape"] == [1, 4, 2, 16, 16]
    assert report["finite"] and report["varies"]
    assert report["peak"] < 9 * GIGABYTE
