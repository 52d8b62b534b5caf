"""One process at a time in a folder."""

import os
from pathlib import Path

# file descriptors of the folders this process holds
_held: dict[Path, int] = {}


def hold(folder: Path) -> None:
    """Hold a folder until `release` or the end of this process, however it ends; not on Windows.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        return
    if folder.resolve() in _held:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise BlockingIOError(
            f"{folder}: another process is at work there; wait for it, or choose another output"
        ) from error
    _held[folder.resolve()] = descriptor


def release(folder: Path) -> None:
    """Let others hold a folder."""
    descriptor = _held.pop(folder.resolve(), None)
    if descriptor is not None:
        os.close(descriptor)
