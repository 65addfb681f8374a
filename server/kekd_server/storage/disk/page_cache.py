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
_HOW_ARGUMENTS: Final = ctypes.byref(_HOW), ctypes.sizeof(_HOW)


def open_if_cached(path: bytes) -> int | None:
    """Returns a descriptor to read from, or None if a part of the path isn't in memory, or the
    kernel can't say. Never raises an error: the read that waits for the disk reports it.
    """
    file: int = _syscall(_OPENAT2, _AT_FDCWD, path, *_HOW_ARGUMENTS)
    return None if file < 0 else file


def read_if_cached(file: int, max_bytes: int) -> tuple[bytes, os.stat_result] | None:
    """Returns the whole file without waiting for the disk (preadv2(2), RWF_NOWAIT), and its status
    after that, or None if that fails or the file has more than `max_bytes`.

    The kernel stops at the first page that isn't in memory, so it may return only a part.
    """
    content = bytearray(max_bytes)
    try:
        length = os.preadv(file, [content], 0, os.RWF_NOWAIT)
        stat = os.fstat(file)
    except OSError:
        return None
    return (bytes(content[:length]), stat) if length == stat.st_size else None
