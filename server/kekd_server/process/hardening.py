"""Protects the memory of the process, which holds the TLS private key and wrapped KEKs."""

import ctypes
import logging
import os
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4
"""From linux/prctl.h."""

_log = logging.getLogger(__name__)


def disable_core_dumps() -> None:
    """Disables core dumps, and prevents other processes of the same user from attaching.

    The limit alone isn't enough: the kernel ignores a limit of 0 when it pipes core dumps to a
    program such as systemd-coredump (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        _log.warning("cannot disable core dumps: %s", os.strerror(ctypes.get_errno()))
