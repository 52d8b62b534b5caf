"""What the project promised itself: ratios of two figures of one run, and figures at most."""

from dataclasses import dataclass

from benchmarks.records import Results


@dataclass(frozen=True, kw_only=True)
class Target:
    """How many times one form should cost what another does.

    Attributes:
        group: where the figures are compared; its op or network is how the ratio is called.
        costlier: form of the figure above the line.
        ours: form of the figure below it.
        least: what the ratio should be at least.
        of: "seconds" or "peak_bytes".
    """

    group: str
    costlier: str
    ours: str
    least: float
    of: str = "seconds"

    @property
    def in_turn(self) -> bool:
        """Whether the forms are called in turn: what is timed."""
        return self.of == "seconds"

    @property
    def what(self) -> str:
        """The ratio in words."""
        memory = "peak memory, " if self.of == "peak_bytes" else ""
        return f"{memory}{self.group}: {self.costlier} / {self.ours}"

    def ratio(self, results: Results) -> float | None:
        """Return the measured ratio, or None if one of the figures was not taken."""
        below = results.find(self.group, self.ours)
        if below is not None and self.in_turn and self.costlier in below.ratios:
            return below.ratios[self.costlier]
        above = results.find(self.group, self.costlier)
        if above is None or below is None:
            return None
        figures = getattr(above, self.of), getattr(below, self.of)
        return None if None in figures else figures[0] / figures[1]


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What a figure of ours should be at most.

    Attributes:
        group: where it is.
        most: seconds, or bytes.
        of: "seconds" or "peak_bytes".
    """

    group: str
    most: float
    of: str = "seconds"

    @property
    def what(self) -> str:
        """The figure in words."""
        memory = "peak memory beside weights, " if self.of == "peak_bytes" else ""
        return f"{memory}{self.group}: unianimate"

    def figure(self, results: Results) -> float | None:
        """Return the measured figure, or None if it was not taken."""
        record = results.find(self.group, "unianimate")
        return None if record is None else getattr(record, self.of)

    def written(self, figure: float) -> str:
        """Return a figure with its unit."""
        return f"{figure / 1e9:.2f} GB" if self.of == "peak_bytes" else f"{1e3 * figure:.0f} ms"


# the network in the official layout, and that in float32 where ours is not
OFFICIAL = "official layout"
OFFICIAL_FLOAT32 = "official layout, float32"


def _native(group: str, costlier: str, least: float, ours: str = "native") -> Target:
    return Target(group=group, costlier=costlier, ours=ours, least=least)


def _network(group: str, least: float, of: str = "seconds", costlier: str = OFFICIAL) -> Target:
    unet = f"unet, {group}"
    return Target(group=unet, costlier=costlier, ours="unianimate", least=least, of=of)


_SIZE = "F=16 24x16 C=128, float32"
_ATTENTION = "temporal_attention, F=17 48x32 C=320, float32, forward"
_FORWARD = "dim 64, forward, F=16+1 32x32"
CPU = [
    _native(f"selective_scan, {_SIZE}, forward", "reference", 5),
    _native(f"selective_scan, {_SIZE}, forward", "materialising", 25),
    _native(f"selective_scan, {_SIZE}, forward and backward", "reference", 10),
    _native(f"selective_scan with geometric decays, {_SIZE}, forward", "native, free decays", 1.5),
    _native("group_norm_silu, B=2 F=17 48x32 C=320, float32, forward", "torch", 6),
    _native(_ATTENTION, "SDPA on views", 3),
    _native(_ATTENTION, "SDPA, rearranged", 20),
    _native(f"ssd_scan, {_SIZE}, forward", "reference", 3),
    _network(f"{_FORWARD}, float32", 1.5),
    _network(f"{_FORWARD}, float32", 1, "peak_bytes"),
    # where the CPU has instructions for bfloat16
    _network(f"{_FORWARD}, bfloat16", 3, costlier=OFFICIAL_FLOAT32),
    *(
        _network(f"small, guided step, F={n}+1 16x12, {dtype}", 2)
        for dtype in ("float32", "bfloat16")
        for n in (8, 16, 32)
    ),
]

_PEER = "mamba, mamba-ssm layout"


def _mixer(frames: int, mode: str = "inference") -> str:
    return f"temporal mixer, C=320 96x64 F={frames}, bfloat16, {mode}"


def _core(frames: int) -> str:
    return f"temporal_attention, F={frames} 96x64 C=320, bfloat16, forward"


_STEP = "full size, guided step, F=32+1 96x64, bfloat16"
GPU = [
    *(_native(_mixer(n), _PEER, 4, "mamba") for n in (17, 33)),
    *(_native(_mixer(n, "training"), _PEER, 3, "mamba") for n in (17, 33)),
    *(
        _native(_core(n), peer, 2.5, "triton")
        for n in (17, 33)
        for peer in ("SDPA, rearranged", "xformers")
    ),
    *(_native(_mixer(n), "transformer", 1, "mamba2") for n in (17, 128)),
    # at most 60 % of the time
    _network(_STEP, 1 / 0.6),
]
GPU_CEILINGS = [
    Ceiling(group=f"unet, {_STEP}", most=0.3),
    Ceiling(group=f"unet, {_STEP}", most=8e9, of="peak_bytes"),
]


def baselines_of(group: str, form: str) -> list[str]:
    """Return the forms of a group that a form is to be some times faster than."""
    return [
        target.costlier
        for target in (*CPU, *GPU)
        if target.in_turn and (target.group, target.ours) == (group, form)
    ]
