"""The longest clip that the full-size network makes in one pass, by the bytes a frame takes."""

import gc

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.bench_unet3d import NETWORKS, given
from benchmarks.records import Record
from unianimate.models import UNet3D
from unianimate.profiling import LiveBytes, peak_bytes

MEMORIES = (24, 48, 80, 141)  # GB of usual cards
SIZES = {
    "smoke": ("test", (6, 4), (2, 4)),
    "cpu": ("full size", (96, 64), (16, 32)),
    "gpu": ("full size", (96, 64), (32, 64)),
}
DTYPE = torch.bfloat16


def peak(network, size, frames, device):
    """Return the bytes that one forward holds besides weights and conditions, and the weights'.

    On a GPU measured. Elsewhere counted on tensors without contents, with gradients enabled but
    none wanted: so the feed-forward takes the path of a GPU, which does not split the rows.
    """
    config = NETWORKS[network]

    def build():
        with torch.device(device):
            net = UNet3D(config).eval().requires_grad_(False)
        for parameter in net.parameters():
            parameter.data = parameter.data.to(DTYPE)
        inputs = given(config, frames, size, DTYPE, device)
        conditions = net.encode_conditions(**inputs, num_frames=frames, latent_size=size).tensors
        sample = torch.randn(1, config.in_channels, frames, *size, device=device, dtype=DTYPE)
        t = torch.tensor([500], device=device)
        weights = sum(p.numel() for p in net.parameters()) * DTYPE.itemsize
        return lambda: net(sample, t, conditions), weights

    if device.type == "cuda":
        call, weights = build()
        with torch.no_grad():
            call()
            return peak_bytes(call, device), weights
    with FakeTensorMode():
        call, weights = build()
        with LiveBytes() as counter:
            call()
    return counter.peak, weights


def bench_longest_clip(run):
    network, size, lengths = SIZES[run.scale]
    gc.collect()
    (first, weights), (second, _) = (peak(network, size, n, run.device) for n in lengths)
    a_frame = (second - first) / (lengths[1] - lengths[0])
    fixed = first - lengths[0] * a_frame
    assert a_frame > 0
    how = "measured" if run.device.type == "cuda" else "counted without workspaces"
    for memory in MEMORIES:
        frames = int((memory * 1e9 - weights - fixed) / a_frame)
        run.add(
            Record(
                section="longest clip",
                group=f"longest clip in one pass, {network}, {8 * size[0]}x{8 * size[1]}, bfloat16",
                form=f"{memory} GB",
                frames=frames,
                peak_bytes=int(weights + fixed + frames * a_frame),
                note=f"extrapolated from {a_frame / 1e6:.1f} MB a frame, {how} at "
                f"F={lengths[0]} and {lengths[1]}, beside {weights / 1e9:.2f} GB of weights; the "
                "passes of guidance one after the other",
            )
        )
