"""The daemon that serves the addresses already, and its end."""

import asyncio
import logging
import os
import signal
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.listener import Listener
from kekd_server.listeners.unix import UnixListener

END_TIMEOUT: Final = 60.0
"""Seconds beyond the shutdown grace. A process that is stopped or hung would never end."""

_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): process, user, group."""
_WORKER: Final = b"kekd_server.worker"

_log = logging.getLogger(__name__)


async def replace(listeners: Sequence[Listener], *, shutdown_grace: float) -> None:
    """Has the daemon that listens on one of the Unix sockets drain and end, and waits for that, at
    most `END_TIMEOUT` longer than the grace. Raises `ListenError` if it doesn't end.

    To be called when its successor can listen at once: so callers are without a daemon for as long
    as the drain takes, and not for as long as a start does.
    """
    for listener in listeners:
        if isinstance(listener, UnixListener) and (process := _process_at(listener.path)):
            await _end(process, listener, END_TIMEOUT + shutdown_grace)


async def _end(process: int, listener: UnixListener, seconds: float) -> None:
    try:
        # A handle, as the number may be another process's by the time it is used.
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        _log.info("process %d serves %s: waiting until it has drained", process, listener)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(handle, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), seconds)
        except TimeoutError:
            raise ListenError(
                f"{listener}: process {process} didn't end within {seconds:g} s of SIGTERM: it may"
                f" be stopped or hung; end it ('kill -KILL {process}'), and start kekd again"
            ) from None
        finally:
            asyncio.get_running_loop().remove_reader(handle)
    finally:
        os.close(handle)


def _process_at(path: Path) -> int | None:
    """The daemon's process, as the kernel knows who listens. None if nobody does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)  # one whose backlog is full would be waited for without end
        try:
            probe.connect(str(path))
        except OSError:
            return None
        peer = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process: int = _CREDENTIALS.unpack(peer)[0]
    # 0 is a process of another namespace, which no signal reaches.
    return _supervisor_of(process) if process else None


def _supervisor_of(process: int) -> int:
    """Of a worker, which it would start again; any other process is its own."""
    with suppress(OSError):
        folder = Path(f"/proc/{process}")
        if _WORKER in (folder / "cmdline").read_bytes().split(b"\0"):
            # What follows the command, which may have spaces and brackets: its state and parent.
            return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return process
