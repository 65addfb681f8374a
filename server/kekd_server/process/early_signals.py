"""What signals do from the first moment, before anything that takes long is imported.

Process 1, which a container's only process is, needs handlers of its own: the kernel gives it no
default actions, so a SIGTERM that nothing handles is lost.
"""

import os
import signal
from types import FrameType
from typing import Final

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

_INIT: Final = 1
_KILLED: Final = 128
"""What a shell adds to the number of a signal that ended a process."""


def end_at_once() -> None:
    """From now on SIGTERM and SIGINT end the process at once, process 1 too."""
    for number in STOPPING:
        signal.signal(number, _end if os.getpid() == _INIT else signal.SIG_DFL)


def ignore_hangup() -> None:
    """Before anything is read there is nothing to read again."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(_KILLED + number)
