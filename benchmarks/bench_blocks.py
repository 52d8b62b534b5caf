"""The temporal mixers as a clip grows: time and peak memory, by `unianimate.profiling`."""

from functools import cache, partial

import pytest
import torch

from benchmarks.mamba_ssm_layout import HAS_PEERS, MambaSsmLayout, randomise
from benchmarks.official_layout import OfficialTemporalTransformer
from benchmarks.records import Record
from unianimate.blocks import TemporalMamba, TemporalTransformer
from unianimate.models.devices import default_dtype
from unianimate.profiling import MIXERS, measure_mixer
from unianimate_kernels import use_backend

MODES = ("inference", "training", "checkpointed")
# mode -> channels, height, width, dtype -> frames: on a GPU the levels of 768x512, the finest one
# at most lengths; on a CPU as many locations as it can take, the cost being the same for each, in
# inference in the dtype that networks run in there
_SINGLE, _HALF = torch.float32, torch.bfloat16
_CPU_DTYPE = default_dtype(torch.device("cpu"))
_CPU_FRAMES = (16, 32, 64, 128, 256)
_GPU_FRAMES = (16, 17, 32, 33, 64, 65, 128, 256, 512, 1024, 2048, 4096)
SIZES = {
    "smoke": {mode: {(64, 2, 2, _SINGLE): (3,)} for mode in MODES},
    "cpu": {
        "inference": dict.fromkeys(
            (
                *((*size, _CPU_DTYPE) for size in ((320, 6, 4), (640, 4, 3), (1280, 3, 2))),
                (320, 6, 4, _SINGLE),
            ),
            _CPU_FRAMES,
        ),
        "training": {(320, 3, 2, _SINGLE): _CPU_FRAMES},
        "checkpointed": {(320, 3, 2, _SINGLE): _CPU_FRAMES},
    },
    "gpu": {
        "inference": {
            (320, 96, 64, _HALF): _GPU_FRAMES,
            (640, 48, 32, _HALF): (16, 64, 256, 1024, 4096),
            (1280, 24, 16, _HALF): (16, 64, 256, 1024, 4096),
        },
        "training": {
            (320, 96, 64, _HALF): (17, 33, 64, 128, 256, 512),
            (640, 48, 32, _HALF): (16, 64, 256),
            (1280, 24, 16, _HALF): (16, 64, 256),
        },
        "checkpointed": {
            (320, 96, 64, _HALF): (33, 128, 512),
            (640, 48, 32, _HALF): (64,),
            (1280, 24, 16, _HALF): (64,),
        },
    },
}
# a GPU has more sizes than time: a call that takes the budget is timed once
FEWEST = {"smoke": 1, "cpu": 3, "gpu": 1}
FORMS = {
    **MIXERS,
    "mamba, shared dynamics": partial(TemporalMamba, share_dynamics=True),
    "transformer, official layout": OfficialTemporalTransformer,
    "mamba, mamba-ssm layout": MambaSsmLayout,
}
# of the norm of a result, or of a gradient, what kernels and references may differ by
TOLERANCE = {_SINGLE: 1e-3, _HALF: 0.1}


def cases(scale):
    """Return (mode, channels, height, width, dtype, frames, form), short clips first."""
    # torch's stand-ins for mamba-ssm are there to be checked, not to be measured
    forms = [name for name in FORMS if HAS_PEERS or scale == "smoke" or "mamba-ssm" not in name]
    found = [
        (mode, *size, frames, form)
        for mode in MODES
        for size, lengths in SIZES[scale][mode].items()
        for frames in lengths
        for form in forms
    ]
    return sorted(found, key=lambda case: (MODES.index(case[0]), case[5]))


def group(mode, dim, height, width, dtype, frames):
    name = str(dtype).removeprefix("torch.")
    return f"temporal mixer, C={dim} {height}x{width} F={frames}, {name}, {mode}"


@pytest.mark.parametrize(
    ("ours", "other"),
    [(TemporalTransformer, OfficialTemporalTransformer), (TemporalMamba, MambaSsmLayout)],
)
def bench_layouts_agree(ours, other):
    torch.manual_seed(0)
    device = "cuda" if HAS_PEERS else "cpu"  # they are for GPUs
    block, same = ours(64).to(device), other(64).to(device)
    randomise(block)
    same.load_state_dict(block.state_dict())
    x = torch.randn(1, 64, 5, 3, 2, device=device)
    # TF32 is on for convolutions, unless told otherwise, but not for products
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        torch.testing.assert_close(same(x), block(x), atol=1e-4, rtol=1e-4)


@cache
def kernels_agree(mode, dim, height, width, dtype, form, device):
    """Assert that a mixer finds by this machine's kernels what it does by the references."""
    torch.manual_seed(0)
    block = FORMS[form](dim)
    randomise(block)
    block.to(device, dtype)
    x = torch.randn(1, dim, 5, height, width, device=device, dtype=dtype)
    leaves = [x.requires_grad_(), *block.parameters()]
    cotangent = torch.randn_like(x)

    def find():
        if mode == "inference":
            with torch.no_grad():
                return [block(x)]
        y = block(x)
        return [y, *torch.autograd.grad(y, leaves, cotangent)]

    found = find()
    with use_backend("reference"):
        wanted = find()
    for i, (got, want) in enumerate(zip(found, wanted, strict=True)):
        off = (got - want).norm().item()
        assert off <= TOLERANCE[dtype] * want.norm().item(), f"{form}, {mode}: {i} is off by {off}"


def bench_mixer(run, case):
    mode, dim, height, width, dtype, frames, form = case
    if "layout" not in form:
        kernels_agree(*case[:5], form, run.device)
    cost = measure_mixer(
        *(form, FORMS[form]),
        dim=dim,
        size=(height, width),
        frames=frames,
        mode=mode,
        device=run.device,
        dtype=dtype,
        budget=run.budget,
        fewest=FEWEST[run.scale],
    )
    run.add(
        Record(
            section="blocks",
            group=group(*case[:-1]),
            form=form,
            seconds=cost.seconds,
            low=cost.low,
            high=cost.high,
            rounds=cost.rounds,
            frames=frames,
            peak_bytes=cost.peak_bytes,
            note="" if cost.seconds is not None else "out of memory",
            extra={
                "mode": mode,
                "dim": dim,
                "size": f"{height}x{width}",
                "dtype": str(dtype).removeprefix("torch."),
            },
        )
    )
