"""Denoise the windows of a long video; run by torchrun, it shares them among its processes.

torchrun --nproc-per-node=2 benchmarks/share_windows.py small 28 2
"""

import json
import sys
import time

import torch

from unianimate.blocks import NoiseScheduler
from unianimate.models import PRESETS, UNet3D
from unianimate.models.devices import default_device, default_dtype
from unianimate.pipelines import denoise, plan_windows
from unianimate.pipelines.distributed import torchrun_processes
from unianimate.profiling import synchronise


def main(name: str, frames: int, steps: int) -> None:
    """Print seconds as JSON, in the first process."""
    with torchrun_processes() as processes, torch.no_grad():
        device, config = default_device(), PRESETS[name]
        torch.manual_seed(0)
        with device:
            net = UNet3D(config.unet).to(default_dtype(device)).eval()
        size = (config.height // 8, config.width // 8)
        text = torch.randn(1, config.text_tokens, config.unet.context_dim, device=device)
        latents = torch.randn(1, config.unet.in_channels, frames, *size, device=device)
        windows = plan_windows(frames, config.num_frames, config.num_frames // 4)
        scheduler = NoiseScheduler()

        def predict(sample, timestep, window):
            wanted = net.encode_conditions(text, num_frames=len(window), latent_size=size)
            return net(sample, timestep.reshape(1).to(device), wanted), None

        def run(count):
            scheduler.set_timesteps(count)
            start = time.perf_counter()
            denoise(
                *(predict, latents, scheduler),
                guidance_scale=1.0,
                windows=windows,
                processes=processes,
            )
            synchronise(device)
            return time.perf_counter() - start

        run(1)
        seconds = run(steps)
        if processes.is_first:
            print(json.dumps({"seconds": seconds, "frames": frames, "steps": steps}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
