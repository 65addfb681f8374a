"""Signal handlers for the start of a process, before the slow imports.

Process 1, the only process of a container, needs explicit handlers: the kernel gives it no default
actions, so it ignores a SIGTERM that it doesn't handle.
"""

import os
import signal
from types import FrameType
from typing import Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_INIT_PID: Final = 1
_SIGNALLED_EXIT_CODE: Final = 128
"""A shell adds the number of the signal to this."""


def exit_on_signal() -> None:
    """Makes SIGTERM and SIGINT end the process immediately, also as process 1."""
    for number in STOP_SIGNALS:
        signal.signal(number, _end if os.getpid() == _INIT_PID else signal.SIG_DFL)


def ignore_hangup() -> None:
    """Ignores SIGHUP, because nothing is loaded yet that could be reloaded."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(_SIGNALLED_EXIT_CODE + number)
