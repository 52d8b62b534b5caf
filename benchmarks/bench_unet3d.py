"""The network against the same network in the official layout."""

import gc
from dataclasses import replace
from functools import lru_cache

import pytest
import torch

from benchmarks.mamba_ssm_layout import randomise
from benchmarks.official_layout import OfficialLayout
from benchmarks.targets import OFFICIAL, OFFICIAL_FLOAT32, baselines_of
from unianimate.blocks import NoiseScheduler
from unianimate.models import (
    PRESETS,
    LevelSpec,
    TemporalTransformerSpec,
    UNet3D,
    UNet3DConfig,
    predict_both,
)
from unianimate.models.devices import default_dtype
from unianimate_kernels import keep_packed_weights

# what one forward is measured on everywhere; the official network's first mixer is 1.6 times as
# wide as its channels
DIM_64 = replace(
    UNet3DConfig(),
    dim=64,
    levels=(
        LevelSpec(channels=64),
        LevelSpec(channels=128),
        LevelSpec(channels=256),
        LevelSpec(channels=256, spatial=False, temporal=False),
    ),
    temporal=TemporalTransformerSpec(head_dim=64, init_heads=2),
)
NETWORKS = {
    "dim 64": DIM_64,
    "small": PRESETS["small"].unet,
    "full size": PRESETS["unianimate-v1"].unet,
    "test": PRESETS["test"].unet,
}
# with fewer seconds left a network is not compiled: two graphs of the official layout took 180 on
# two cores; on a GPU's machine, with more of them and a larger network, it has not been timed
COMPILING = {"smoke": 0, "cpu": 60, "gpu": 110}
FORMS = ("unianimate", OFFICIAL, "unianimate, compiled", "official layout, compiled")
GUIDANCE = 2.5


def cases(scale):
    """Return (network, call, frames, (height, width), dtype, form).

    What is compiled is one forward: the official layout's passes of guidance would be two graphs.
    """
    half, single = torch.bfloat16, torch.float32
    eager, compiled = FORMS[:2], FORMS[2:]
    if scale == "smoke":
        return [("test", call, 2, (6, 4), single, f) for call in ("forward", "step") for f in eager]
    if scale == "gpu":
        large, dtypes = (96, 64), (single, half)
        whole = [
            *(("full size", "step", n, large, half, form) for n in (32, 16, 64) for form in eager),
            ("full size", "step", 128, large, half, "unianimate"),
            *(("full size", "forward", 32, large, half, form) for form in (*eager, *compiled)),
        ]
    else:
        little = (16, 12)
        # float32, and the dtype that a CPU with instructions for it runs networks in
        dtypes = dict.fromkeys((single, default_dtype(torch.device("cpu"))))
        lengths = [(frames, dtype) for dtype in dtypes for frames in (8, 16, 32)]
        whole = [
            *(("small", "step", n, little, dtype, form) for n, dtype in lengths for form in eager),
            *(("small", "forward", 8, little, single, form) for form in (*eager, *compiled)),
        ]
    forward = [("dim 64", "forward", 16, (32, 32), d, form) for d in dtypes for form in eager]
    return [*whole, *forward]


def group(network, call, frames, size, dtype):
    """Return the name of what is compared."""
    what = "guided step" if call == "step" else call
    name = str(dtype).removeprefix("torch.")
    return f"unet, {network}, {what}, F={frames}+1 {size[0]}x{size[1]}, {name}"


def given(config, frames, size, dtype, device):
    """Return random conditions, everything of them."""
    pixels = (8 * size[0], 8 * size[1])
    images = config.num_tokens if config.image_tokens == "patches" else 1
    sizes = {
        "text_embeds": (1, 77 if config.context_dim == 1024 else 4, config.context_dim),
        "image_embeds": (1, images, config.context_dim),
        "pose": (1, 3, frames, *pixels),
        "reference_pose": (1, 3, *pixels),
        "reference_latents": (1, config.in_channels, *size),
    }
    return {name: torch.rand(shape, device=device, dtype=dtype) for name, shape in sizes.items()}


@lru_cache(maxsize=2)
def networks(network, dtype, device):
    """Return a network with random weights, and the same in the official layout."""
    torch.manual_seed(0)
    with device:
        net = UNet3D(NETWORKS[network])
    randomise(net)
    net = net.to(dtype).eval().requires_grad_(False)
    return net, OfficialLayout(net)


def calls(network, call, frames, size, dtype, device):
    """Return form -> a function of no arguments, for one forward or one guided step."""
    net, baseline = networks(network, dtype, device)
    config = net.config
    torch.manual_seed(0)
    everything = given(config, frames, size, dtype, device)
    text = {"text_embeds": everything["text_embeds"]}
    sample = torch.randn(1, config.in_channels, frames, *size, device=device, dtype=dtype)
    t = torch.tensor([500], device=device)
    shape = {"num_frames": frames, "latent_size": size}
    wanted, nothing = (net.encode_conditions(**c, **shape) for c in (everything, text))
    scheduler = NoiseScheduler()
    scheduler.set_timesteps(30)
    timestep = int(scheduler.timesteps[len(scheduler.timesteps) // 2])

    def ours(net):
        if call == "forward":
            return net(sample, t, wanted.tensors)
        return guided(*predict_both(net, sample, t, wanted, nothing))

    def official(net):
        if call == "forward":
            return net(sample, t, **everything)
        return guided(net(sample, t, **everything), net(sample, t, **text))

    def guided(conditional, unconditional):
        predicted = unconditional + GUIDANCE * (conditional - unconditional)
        return scheduler.step(predicted, timestep, sample).prev_sample

    return {
        "unianimate": lambda: ours(net),
        OFFICIAL: lambda: official(baseline),
        "unianimate, compiled": _compiled(ours, net),
        "official layout, compiled": _compiled(official, baseline),
    }


def _compiled(form, net):
    """Return a call of the compiled network, compiled at its first use."""
    made = []

    def run():
        if not made:
            torch.compiler.reset()
            made.append(torch.compile(net))
        return form(made[0])

    return run


@pytest.mark.filterwarnings("ignore")  # the compiler warns of what it cannot do
def bench_unet(measure, run, case):
    network, call, frames, size, dtype, form = case
    if "compiled" in form:
        run.deadline.check(COMPILING[run.scale])
    gc.collect()
    # as where a video is made, step after step
    with torch.no_grad(), keep_packed_weights():
        functions = calls(network, call, frames, size, dtype, run.device)
        want, got = (functions[name]().float() for name in (OFFICIAL, form))
        # a GPU's float32 convolutions keep ten bits of their factors, as torch has it by default
        exact = 1e-2 if run.device.type == "cuda" else 1e-3
        tolerance = exact if dtype == torch.float32 else 0.1
        off = (got - want).abs().max().item()
        assert off < tolerance * want.abs().max().item()
        compared = group(*case[:-1])
        others = baselines_of(compared, form)
        if OFFICIAL_FLOAT32 in others:
            single = calls(network, call, frames, size, torch.float32, run.device)
            functions[OFFICIAL_FLOAT32] = single[OFFICIAL]
        measure(
            "unet",
            compared,
            form,
            functions[form],
            frames=frames,
            # the counter sees single ops, which a compiled network does not call
            peak="compiled" not in form or run.device.type == "cuda",
            warm=True,
            others={other: functions[other] for other in others},
            network=network,
            call=call,
            dtype=dtype,
        )
