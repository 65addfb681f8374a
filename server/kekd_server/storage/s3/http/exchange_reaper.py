"""Ends exchanges with a server that sends its response too slowly."""

import socket
import threading
import time
import weakref
from contextlib import suppress
from typing import Final

EXCHANGE_TIMEOUT: Final = 15.0
_INTERVAL: Final = 1.0


class ExchangeReaper:
    """Shuts down the connection of an exchange that lasts longer than `EXCHANGE_TIMEOUT`. The
    timeout of a socket starts again with each byte, so it can't do that.
    """

    def __init__(self) -> None:
        self._started: dict[socket.socket, float] = {}
        self._thread: threading.Thread | None = None

    def watch(self, connection: socket.socket) -> None:
        self._started[connection] = time.monotonic()
        if self._thread is None:
            self._thread = threading.Thread(
                target=_reap, args=(weakref.ref(self),), name="s3 exchanges", daemon=True
            )
            self._thread.start()

    def forget(self, connection: socket.socket) -> None:
        self._started.pop(connection, None)

    def end_old(self) -> None:
        now = time.monotonic()
        for connection, started in list(self._started.items()):
            if now - started > EXCHANGE_TIMEOUT:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def _reap(reference: "weakref.ref[ExchangeReaper]") -> None:
    while (reaper := reference()) is not None:
        reaper.end_old()
        del reaper
        time.sleep(_INTERVAL)
