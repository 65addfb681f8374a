"""Signal handlers of a running daemon."""

import asyncio
import signal
from collections.abc import Callable

from kekd_server.process.early_signals import STOP_SIGNALS, exit_on_signal


def stop_signal(*, ignore_repeats: bool = False) -> asyncio.Event:
    """Returns an event that SIGTERM or SIGINT sets. A second signal ends the process immediately.

    A worker ignores repeats: systemd signals every process of a service, and Ctrl-C every process
    of a terminal, so a worker gets one signal from there and one from its supervisor.
    """
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        signalled.set()
        if not ignore_repeats:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)
            exit_on_signal()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    return signalled


def on_hangup(*handlers: Callable[[], object]) -> None:
    """Calls each handler on SIGHUP, which would otherwise end the process."""

    def hangup() -> None:
        for handle in handlers:
            handle()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup)
