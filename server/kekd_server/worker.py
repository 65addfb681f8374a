"""One of several processes that serve as one daemon, started by `kekd_server.process.supervisor`.

The argument is the worker's number. Standard input carries the settings in one line, and closes
when the supervisor ends. On standard output the worker answers with one line: a JSON list of the
problems that prevent it from serving, empty once it serves.
"""

import asyncio
import json
import os
import sys
import threading
from pathlib import Path
from typing import Final

from kekd_server import app
from kekd_server.config.errors import SettingsError
from kekd_server.config.settings import Settings
from kekd_server.listeners.descriptor_limit import raise_descriptor_limit
from kekd_server.listeners.errors import ListenError
from kekd_server.observability import logs
from kekd_server.process.event_loop import loop_factory
from kekd_server.process.hardening import disable_core_dumps

_STDIN: Final = 0


def main() -> None:
    number = int(sys.argv[1])
    message = json.loads(sys.stdin.readline())
    settings = Settings(**message["settings"])
    config_file = message["config_file"] and Path(message["config_file"])
    # A thread, because an event loop that waits for a hung disk notices nothing.
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    try:
        with logs.configure(settings.log_format, settings.log_level, worker=number):
            disable_core_dumps()
            raise_descriptor_limit()
            asyncio.Runner(loop_factory=loop_factory(settings)).run(
                app.run_worker(settings, config_file, number, on_serving=lambda: _answer([]))
            )
    except (SettingsError, ListenError) as error:
        _answer(str(error).splitlines())
        sys.exit(2)
    os._exit(0)  # as in __main__


def _answer(problems: list[str]) -> None:
    sys.stdout.write(json.dumps(problems) + "\n")
    sys.stdout.flush()


def _end_with_supervisor() -> None:
    # Not through sys.stdin: a thread must not hold its lock when the interpreter ends.
    os.read(_STDIN, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
