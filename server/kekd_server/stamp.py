"""Whether a file is still the one that was read."""

from pathlib import Path

Stamp = tuple[int, ...]


def stamp(path: Path) -> Stamp:
    """Differs whenever the file was written or replaced, also by way of a link, as Kubernetes does
    with the folder of a secret.
    """
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
