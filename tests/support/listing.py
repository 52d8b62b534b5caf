"""See whether a command left anything behind."""

from pathlib import Path


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every path below a folder, with what a change of it would change."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }
