"""Reads a file only if the kernel has it in memory, without waiting for the disk."""

import ctypes
import os
from typing import Final

_OPENAT2: Final = 437
"""The number of openat2(2) on every architecture (Linux 5.6)."""
_AT_FDCWD: Final = -100
_RESOLVE_CACHED: Final = 0x20
"""Fail if a part of the path isn't in memory (Linux 5.12)."""

_syscall = ctypes.CDLL(None, use_errno=True).syscall


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_HOW: Final = _OpenHow(os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, 0, _RESOLVE_CACHED)


def open_if_cached(path: str) -> int | None:
    """Returns a descriptor to read from, or None if a part of the path isn't in memory, or the
    kernel can't say. Never raises an error: the read that waits for the disk reports it.
    """
    file: int = _syscall(
        _OPENAT2, _AT_FDCWD, os.fsencode(path), ctypes.byref(_HOW), ctypes.sizeof(_HOW)
    )
    return None if file < 0 else file


def read_if_cached(file: int, max_bytes: int) -> bytes | None:
    """Returns the whole file without waiting for the disk (preadv2(2), RWF_NOWAIT), or None if
    that fails or the file has more than `max_bytes`.

    The kernel stops at the first page that isn't in memory, so it may return only a part.
    """
    content = bytearray(max_bytes)
    try:
        length = os.preadv(file, [content], 0, os.RWF_NOWAIT)
        return bytes(content[:length]) if length == os.fstat(file).st_size else None
    except OSError:
        return None
