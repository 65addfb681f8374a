"""The signals that a daemon heeds."""

import asyncio
import signal
from collections.abc import Callable

from kekd_server.process.early_signals import STOPPING, end_at_once


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM or SIGINT, of which a second then ends the process at once."""
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        signalled.set()
        for number in STOPPING:
            loop.remove_signal_handler(number)
        end_at_once()

    for number in STOPPING:
        loop.add_signal_handler(number, stop)
    return signalled


def patient_stop_signal() -> asyncio.Event:
    """Set by SIGTERM or SIGINT, however many come. For a worker: systemd signals every process of a
    service and Ctrl-C every one of a terminal, so that it gets one from there and one from its
    supervisor.
    """
    signalled = asyncio.Event()
    for number in STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    return signalled


def on_hangup(*heed: Callable[[], object]) -> None:
    """SIGHUP, which would otherwise end the process, calls each of these."""

    def hangup() -> None:
        for it in heed:
            it()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup)
