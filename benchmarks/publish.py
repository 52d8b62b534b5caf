"""Put the summary of a device's results into the project's README, between its two markers.

python -m benchmarks.publish benchmarks/results/DEVICE
"""

import argparse
import sys
from pathlib import Path

_README = Path(__file__).parent.parent / "README.md"


def publish(summary: str, page: str, mark: str = "benchmarks", name: str = "the README") -> str:
    """Return a page with the summary between its two markers.

    Raises:
        ValueError: the page has not both markers, in order.
    """
    opening, closing = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    head, start, rest = page.partition(opening)
    _, end, tail = rest.partition(closing)
    if not start or not end:
        raise ValueError(f"{name} must hold {opening} and, below it, {closing}")
    return f"{head}{opening}\n\n{summary.strip()}\n\n{closing}{tail}"


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
