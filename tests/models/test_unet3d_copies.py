"""With native ops the network rearranges nothing: channels stay last from entry to exit."""

from dataclasses import replace

import pytest
import torch
from dispatch_counters import CopyCounter

from unianimate.models import PRESETS, Mamba2Spec, MambaSpec, UNet3D
from unianimate_kernels import available_backends, use_backend
from unianimate_kernels._dispatch import ops

CONFIG = PRESETS["test"].unet
MIXERS = {
    "transformer": CONFIG.temporal,
    "mamba": MambaSpec(d_state=4),
    "mamba2": Mamba2Spec(d_state=8, head_dim=16),
}
# temporal_conv takes torch's convolution on a CPU because it measures faster; it makes no copy
OFF = {op: reason for op in ops() if (reason := available_backends(op).get("native")) is not None}


def prepared(mixer, batch, frames=3, size=(8, 4)):
    torch.manual_seed(0)
    net = UNet3D(replace(CONFIG, temporal=MIXERS[mixer])).eval()
    pixels = (8 * size[0], 8 * size[1])
    conditions = net.encode_conditions(
        torch.randn(1, 3, CONFIG.context_dim),
        num_frames=frames,
        latent_size=size,
        image_embeds=torch.randn(batch, 1, CONFIG.context_dim),
        pose=torch.rand(batch, 3, frames, *pixels),
        reference_pose=torch.rand(batch, 3, *pixels),
        reference_latents=torch.randn(batch, 4, *size),
        first_frame=torch.rand(batch, 3, *pixels),
    )
    sample = torch.randn(batch, 4, frames, *size)
    return net, sample, torch.arange(batch), conditions


@pytest.mark.skipif(bool(OFF), reason=f"needs the native ops: {OFF}")
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("mixer", MIXERS)
def test_no_copy_behind_the_entry(mixer, batch):
    net, sample, t, conditions = prepared(mixer, batch)
    assert conditions.tensors is conditions.tensors  # encoded before the count
    with torch.no_grad(), use_backend("native"), CopyCounter() as counter:
        net(sample, t, conditions)
    # the conversions at entry: timesteps to float, and the sample, which comes channels first
    conversions = sorted(counter.copies.values())
    assert conversions == [[1, 4 * batch], [1, 4 * sample.numel()]], counter.copies


@pytest.mark.skipif(bool(OFF), reason=f"needs the native ops: {OFF}")
def test_a_sample_with_channels_last_is_not_copied_either():
    net, sample, t, conditions = prepared("transformer", 1)
    sample = sample.contiguous(memory_format=torch.channels_last_3d)
    assert conditions.tensors is conditions.tensors
    with torch.no_grad(), use_backend("native"), CopyCounter() as counter:
        net(sample, t, conditions)
    assert list(counter.copies.values()) == [[1, 4]], counter.copies  # the timestep to float


def test_the_counter_sees_what_is_there():
    x = torch.randn(64, 128)
    with CopyCounter() as counter:
        x.t().contiguous()
    assert list(counter.copies.values()) == [[1, x.numel() * 4]]
