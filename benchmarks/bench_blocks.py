"""The temporal mixers as a clip grows: time and peak memory, by `unianimate.profiling`."""

from functools import partial

import pytest
import torch

from benchmarks.mamba_ssm_layout import HAS_PEERS, MambaSsmLayout, randomise
from benchmarks.official_layout import OfficialTemporalTransformer
from benchmarks.records import Record
from unianimate.blocks import TemporalMamba, TemporalTransformer
from unianimate.profiling import MIXERS, measure_mixer

MODES = ("inference", "training", "checkpointed")
# (channels, height, width): on a GPU the levels of 768x512; on a CPU as many locations as it can
# take, the cost being the same for each
SIZES = {
    "smoke": dict.fromkeys(MODES, ((64, 2, 2),)),
    "cpu": {
        "inference": ((320, 6, 4), (640, 4, 3), (1280, 3, 2)),
        "training": ((320, 3, 2),),
        "checkpointed": ((320, 3, 2),),
    },
    "gpu": dict.fromkeys(MODES, ((320, 96, 64), (640, 48, 32), (1280, 24, 16))),
}
FRAMES = {
    "smoke": (3,),
    "cpu": (16, 32, 64, 128, 256),
    "gpu": (16, 17, 32, 33, 64, 65, 128, 256, 512, 1024, 2048, 4096),
}
FORMS = {
    **MIXERS,
    "mamba, shared dynamics": partial(TemporalMamba, share_dynamics=True),
    "transformer, official layout": OfficialTemporalTransformer,
    "mamba, mamba-ssm layout": MambaSsmLayout,
}


def cases(scale):
    """Return (mode, channels, height, width, frames, form), short clips first."""
    # torch's stand-ins for mamba-ssm are there to be checked, not to be measured
    forms = [name for name in FORMS if HAS_PEERS or scale == "smoke" or "mamba-ssm" not in name]
    return [
        (mode, *size, frames, form)
        for mode in MODES
        for frames in FRAMES[scale]
        for size in SIZES[scale][mode]
        for form in forms
    ]


DTYPE = torch.bfloat16 if torch.cuda.is_available() else torch.float32
DTYPE_NAME = str(DTYPE).removeprefix("torch.")


def group(mode, dim, height, width, frames):
    return f"temporal mixer, C={dim} {height}x{width} F={frames}, {DTYPE_NAME}, {mode}"


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
    with torch.no_grad():
        torch.testing.assert_close(same(x), block(x), atol=1e-4, rtol=1e-4)


def bench_mixer(run, case):
    mode, dim, height, width, frames, form = case
    cost = measure_mixer(
        *(form, FORMS[form]),
        dim=dim,
        size=(height, width),
        frames=frames,
        mode=mode,
        device=run.device,
        dtype=DTYPE,
        budget=run.budget,
        fewest=run.fewest,
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
            extra={"mode": mode, "dim": dim, "size": f"{height}x{width}", "dtype": DTYPE_NAME},
        )
    )
