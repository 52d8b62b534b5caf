"""Quality of trained models on held-out puppets: every table of docs/small.md.

python -m benchmarks.quality bars MODEL -o FOLDER [--count 64]
python -m benchmarks.quality publish FOLDER
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.quality.bars import bars
from benchmarks.quality.compare import mixers, reference, separate
from benchmarks.quality.finding import Finding
from benchmarks.quality.long import long
from benchmarks.quality.models import Named
from benchmarks.quality.publish import publish_findings
from benchmarks.quality.sweep import sweep
from unianimate.models.devices import default_device, keep_freed_memory


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], Finding], says: str, count: int
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=says, description=says)
        command.add_argument("model", type=Named.of, help="a model's folder, or LABEL=FOLDER")
        command.add_argument("-o", "--output", type=Path, required=True, help="folder of findings")
        command.add_argument("--count", type=_positive, default=count, help=f"puppets ({count})")
        command.set_defaults(run=run)
        return command

    add("bars", lambda o: bars(o.model, o.count), "a model, and what it must beat", 64)
    add("sweep", lambda o: sweep(o.model, o.count), "guidance, steps and samplers", 8)
    command = add(
        *("long", lambda o: long(o.model, o.count, o.frames), "chain, window and single"), 8
    )
    command.add_argument("--frames", type=_positive, default=160, help="of every video (160)")
    command = add(
        *("mixers", lambda o: mixers([o.model, *o.others], o.count), "models side by side"), 64
    )
    command.add_argument("others", type=Named.of, nargs="+", help="more models")
    command = add(
        *("separate", lambda o: separate(o.model, o.other, o.count)),
        *("a model, and one with a separate reference network", 64),
    )
    command.add_argument("other", type=Named.of, help="written by examples/separate_reference.py")
    command = add(
        *("reference", lambda o: reference(o.model, o.without, o.count)),
        *("with and without the reference's pose", 64),
    )
    command.add_argument("without", type=Named.of, nargs="?", help="a model trained without it")
    command = commands.add_parser("publish", help="findings into docs/small.md")
    command.add_argument("findings", type=Path, help="folder that the other commands wrote to")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command."""
    options = _parser().parse_args(arguments)
    if options.command == "publish":
        try:
            print(", ".join(publish_findings(options.findings)))
        except (OSError, ValueError) as error:
            sys.exit(f"quality: {error}")
        return
    folder = options.output / options.command
    try:
        device = default_device()
        if device.type == "cpu":
            keep_freed_memory()
        # a place that cannot be written to is found before hours of work
        folder.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        finding = options.run(options)
        seconds = time.perf_counter() - start
    except (OSError, ValueError) as error:
        with suppress(OSError):  # it is left if earlier findings are in it
            folder.rmdir()
        sys.exit(f"quality: {error}")
    models = [v for v in vars(options).values() if isinstance(v, Named)]
    models += getattr(options, "others", [])
    run = {
        "command": f"{options.command}, {options.count} puppets",
        "models": [model._asdict() for model in models],
        "seconds": seconds,
        "machine": describe(device),
    }
    finding.write(folder, run)
    print(folder / "table.md")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number


if __name__ == "__main__":
    main()
