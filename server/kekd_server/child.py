"""The daemon as the child of a program, with which it ends. The arguments are those of `kekd`.

Standard input carries nothing, and closes when the program ends.
"""

import os
import threading
from typing import Final

import kekd_server

_STDIN: Final = 0


def _end_with_parent() -> None:
    # Not through sys.stdin: a thread must not hold its lock when the interpreter ends.
    os.read(_STDIN, 1)
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    kekd_server.main()
