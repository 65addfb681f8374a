"""Keeps the process's memory, which holds the private key of TLS and wrapped KEKs, to itself."""

import ctypes
import logging
import os
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4
"""Of linux/prctl.h."""

_log = logging.getLogger(__name__)


def forbid_dumps() -> None:
    """No core file is written, and no process of the same user may attach to this one.

    The limit alone isn't enough: the kernel doesn't apply a limit of 0 to a program that collects
    core dumps, as systemd-coredump does (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.uname().sysname == "Linux":
        _set_undumpable()


def _set_undumpable() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        _log.warning("core dumps can't be forbidden: %s", os.strerror(ctypes.get_errno()))
