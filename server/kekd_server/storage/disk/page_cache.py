"""Reading a file without waiting for its disk."""

import ctypes
import os
from typing import Final

_OPENAT2: Final = 437
"""Its number on every architecture (openat2(2), Linux 5.6)."""
_AT_FDCWD: Final = -100
_RESOLVE_CACHED: Final = 0x20
"""Fail where a part of the path isn't in memory (Linux 5.12)."""

_syscall = ctypes.CDLL(None, use_errno=True).syscall


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_HOW: Final = _OpenHow(os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, 0, _RESOLVE_CACHED)


def open_if_cached(path: str) -> int | None:
    """A file descriptor to read from; None unless the path is in the kernel's memory whole, and
    where the kernel can't tell. Raises nothing: whoever waits for the disk is told what is wrong.
    """
    file: int = _syscall(
        _OPENAT2, _AT_FDCWD, os.fsencode(path), ctypes.byref(_HOW), ctypes.sizeof(_HOW)
    )
    return None if file < 0 else file


def read_if_cached(file: int, max_bytes: int) -> bytes | None:
    """The whole file, without waiting for its disk (preadv2(2), RWF_NOWAIT). None if that can't be
    done, or the file has more than `max_bytes`.

    The kernel stops at the first page that isn't in memory, so what it returns may be a part only.
    """
    content = bytearray(max_bytes)
    try:
        length = os.preadv(file, [content], 0, os.RWF_NOWAIT)
        return bytes(content[:length]) if length == os.fstat(file).st_size else None
    except OSError:
        return None
