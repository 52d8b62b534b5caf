"""``unianimate profile``: time and peak memory of the temporal mixers on this machine."""

import json as json_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unianimate.profiling import MixerCost

# locations of the finest level at 768 x 512 pixels; a CPU gets a sixteenth of them
_SIZE = {"cuda": "96x64", "cpu": "24x16"}
_DTYPES = ("float32", "bfloat16", "float16")


def profile(
    dim: Annotated[int, typer.Option(help="Channels.")] = 320,
    size: Annotated[
        str | None,
        typer.Option(help="Locations, height x width (default: 96x64 on a GPU, else 24x16)."),
    ] = None,
    frames: Annotated[str, typer.Option(help="Frames of the clips.")] = "17,33,65,129",
    mode: Annotated[str, typer.Option(help="inference, training or checkpointed.")] = "inference",
    device: Annotated[str | None, typer.Option(help="cpu or cuda (default: a GPU if any).")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16 (default: the device's).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Measure attention, Mamba and Mamba-2 over the frames of ever longer clips."""
    import torch

    from unianimate.models.devices import default_device, default_dtype
    from unianimate.profiling import crossing, profile_mixers

    if mode not in ("inference", "training", "checkpointed"):
        raise ValueError(f"--mode must be inference, training or checkpointed, got {mode!r}")
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"--device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU here; use --device cpu")
    if dtype not in (None, *_DTYPES):
        raise ValueError(f"--dtype must be {', '.join(_DTYPES)}, got {dtype!r}")
    place = default_device() if device is None else torch.device(device)
    kind = default_dtype(place) if dtype is None else getattr(torch, dtype)
    height, width = _numbers("--size", size or _SIZE[place.type], "x", 2)
    costs = []
    for cost in profile_mixers(
        dim=dim,
        size=(height, width),
        frames=_numbers("--frames", frames, ","),
        mode=mode,  # type: ignore[arg-type]  # checked above
        device=place,
        dtype=kind,
    ):
        costs.append(cost)
        if not json:
            _show_progress(cost)
    crossings = {name: crossing(costs, name, "transformer") for name in ("mamba", "mamba2")}
    machine = {
        "device": torch.cuda.get_device_name() if place.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": str(kind).removeprefix("torch."),
    }
    if json:
        rows = [{**vars(cost), "seconds_a_frame": cost.seconds_a_frame} for cost in costs]
        report = {**machine, "costs": rows, "faster_than_transformer_from": crossings}
        typer.echo(json_module.dumps(report, indent=2))
    else:
        _show(costs, crossings, machine)


def _numbers(option: str, text: str, separator: str, count: int | None = None) -> list[int]:
    parts = text.split(separator)
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts) or (
        count is not None and len(parts) != count
    ):
        example = "96x64" if separator == "x" else "17,33,65"
        raise ValueError(f"{option} must be like {example}, got {text!r}")
    return [int(part) for part in parts]


def _show_progress(cost: "MixerCost") -> None:
    milliseconds, _, mebibytes = _cells(cost)
    figures = f"{milliseconds} ms, {mebibytes} MiB" if mebibytes else "out of memory"
    typer.echo(f"{cost.mixer}, {cost.frames} frames: {figures}", err=True)


def _show(
    costs: list["MixerCost"], crossings: dict[str, int | None], machine: dict[str, Any]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console, first = Console(highlight=False), costs[0]
    title = (
        f"one block, {first.mode}, {first.dim} channels at {first.height}x{first.width}, "
        f"{machine['dtype']}, {machine['device']} ({machine['threads']} threads)"
    )
    table = Table("frames", "mixer", title=title, box=box.SIMPLE_HEAD)
    for column in ("ms", "ms a frame", "MiB"):
        table.add_column(column, justify="right")
    for last, cost in zip([None, *costs], costs, strict=False):
        new = last is None or last.frames != cost.frames
        table.add_row(str(cost.frames) if new else "", cost.mixer, *_cells(cost))
    console.print(table)
    for mixer, shortest in crossings.items():
        where = "at no length measured" if shortest is None else f"from {shortest} frames on"
        console.print(f"{mixer} is faster than the transformer {where}")


def _cells(cost: "MixerCost") -> list[str]:
    if cost.seconds is None or cost.peak_bytes is None:
        return ["out of", "memory", ""]
    milliseconds = 1e3 * cost.seconds
    return [
        f"{milliseconds:.1f}",
        f"{milliseconds / cost.frames:.2f}",
        f"{cost.peak_bytes / 2**20:.0f}",
    ]
