"""One of several processes that serve as one daemon. `kekd_server.process.supervisor` starts it.

Its argument is its number. On standard input come the settings, in a line, and then nothing, until
the end says that the supervisor is no more. On standard output it answers, in a line, with a list
of what keeps it from serving, which is empty once it serves.
"""

import asyncio
import json
import os
import sys
import threading
from pathlib import Path
from typing import Final

from kekd_server import app
from kekd_server.config.settings import Settings, SettingsError
from kekd_server.listeners.descriptors import raise_limit
from kekd_server.listeners.errors import ListenError
from kekd_server.observability import logs
from kekd_server.process.hardening import forbid_dumps

_STDIN: Final = 0


def main() -> None:
    number = int(sys.argv[1])
    given = json.loads(sys.stdin.readline())
    settings = Settings(**given["settings"])
    policy_file = given["policy_file"] and Path(given["policy_file"])
    # A thread, as a loop that waits for a disk that hangs would notice nothing.
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    try:
        with logs.configured(settings.log_format, worker=number):
            forbid_dumps()
            raise_limit()
            serving = app.run_worker(settings, policy_file, number, serving=lambda: _answer([]))
            asyncio.Runner(loop_factory=app.event_loop(settings)).run(serving)
    except (SettingsError, ListenError) as error:
        _answer(str(error).splitlines())
        sys.exit(2)
    os._exit(0)  # as in __main__


def _answer(problems: list[str]) -> None:
    sys.stdout.write(json.dumps(problems) + "\n")
    sys.stdout.flush()


def _end_with_supervisor() -> None:
    # Not through sys.stdin, whose lock a thread must not hold when the interpreter ends.
    os.read(_STDIN, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
