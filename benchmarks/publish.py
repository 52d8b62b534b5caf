"""Put the summary of a device's results into the project's README, between its two markers.

python -m benchmarks.publish benchmarks/results/DEVICE
"""

import argparse
import sys
from pathlib import Path

START, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
_README = Path(__file__).parent.parent / "README.md"


def publish(summary: str, readme: str) -> str:
    """Return the README with the summary between the markers.

    Raises:
        ValueError: the README has not both markers, in order.
    """
    head, start, rest = readme.partition(START)
    _, end, tail = rest.partition(END)
    if not start or not end:
        raise ValueError(f"the README must hold {START} and, below it, {END}")
    return f"{head}{START}\n\n{summary.strip()}\n\n{END}{tail}"


def main() -> None:
    """Rewrite the README."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="a folder that `make bench` wrote")
    folder = parser.parse_args().results
    try:
        text = publish((folder / "summary.md").read_text(), _README.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"publish: {error}")
    _README.write_text(text)


if __name__ == "__main__":
    main()
