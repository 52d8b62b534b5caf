"""How native code cuts long axes: what Python has to know to allocate its scratch memory."""


def round_up(count: int, multiple: int) -> int:
    """Return the least multiple that is no less than ``count``."""
    return -(-count // multiple) * multiple


def part(count: int, most: int, multiple: int) -> int:
    """Return the size of the fewest nearly equal parts, a multiple of ``multiple`` each."""
    parts = -(-count // most)
    return round_up(-(-count // parts), multiple)
