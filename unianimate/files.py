"""Look at a file before it is opened, and at a place before it is written to."""

import errno
import os
import stat
from pathlib import Path


def expect_file(path: str | Path) -> Path:
    """Return a path to read from, if it is a regular file: reading a pipe might never end.

    Raises:
        ValueError: a pipe, a device or a socket.
        OSError: a folder, or nothing that can be read.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path}: this is not a file but a pipe or a device; give a file")
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return Path(path)


def expect_writable(path: str | Path) -> None:
    """Find out before hours of work that a result cannot be put in its place.

    Raises:
        OSError: there is no folder to put it into, or nothing may be written there.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {folder}; make it, or choose another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: nothing may be written to {folder}; choose another folder")
