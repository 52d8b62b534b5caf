"""``unianimate info``: versions, devices, every op x backend, and why one is off."""

import json as json_module
from typing import Annotated, Any

import typer

_PACKAGES = ("unianimate", "numpy", "diffusers", "transformers", "av", "triton", "onnxruntime")


def info(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Print what this machine can run, and for each backend that is off why and what helps."""
    import unianimate_kernels.info

    report = {"packages": _versions(), **unianimate_kernels.info.report()}
    if json:
        typer.echo(json_module.dumps(report, indent=2))
    else:
        _show(report)


def _versions() -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    facts = Table.grid(padding=(0, 2))
    packages = {**report["packages"], "python": report["python"], "torch": report["torch"]}
    facts.add_row("versions", ", ".join(f"{k} {v}" for k, v in packages.items() if v))
    for name in ("cpu", "native cpu", "native cuda"):
        facts.add_row(name, report[name])
    facts.add_row("gpus", "; ".join(report["gpus"]))
    console.print(facts)

    table = Table("op", "native", "triton", "reference", "peer", title="works on")
    table.columns[0].no_wrap = True
    reasons: dict[str, dict[str, None]] = {}
    for op, backends in report["backends"].items():
        cells = dict.fromkeys(("native", "triton", "reference", "peer"), "")
        for name, states in backends.items():
            works = [device for device, reason in states.items() if reason is None]
            state = ", ".join(works) or "off"
            cells[name if name in cells else "peer"] = (
                state if name in cells else f"{name}: {state}"
            )
            for device, reason in states.items():
                if reason is not None:
                    reasons.setdefault(f"{name} on {device}: {reason}", {})[op] = None
        table.add_row(op, *cells.values())
    console.print(table)
    for reason, ops in reasons.items():
        affected = "" if len(ops) == len(report["backends"]) else f" ({', '.join(ops)})"
        console.print(f"- {reason}{affected}")
    if report["bound"]:
        free = [op for op in report["backends"] if op not in report["bound"]]
        console.print(f"bound: {report['bound']}; ops that keep their own order: {free or 'none'}")
