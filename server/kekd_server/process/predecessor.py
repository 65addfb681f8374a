"""Replaces the daemon that already serves the addresses."""

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
"""Seconds beyond the shutdown grace. A stopped or hung process never ends."""

_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): process, user, group."""
_WORKER: Final = b"kekd_server.worker"

_log = logging.getLogger(__name__)


async def replace(listeners: Sequence[Listener], *, shutdown_grace: float) -> None:
    """Makes the daemon that listens on one of the Unix sockets drain and end, and waits for that.

    Call it when the new daemon can listen immediately: the addresses are then unserved only while
    the old daemon drains, and not while the new one starts. Raises `ListenError` if the old daemon
    hasn't ended `END_TIMEOUT` seconds after the grace.
    """
    for listener in listeners:
        if isinstance(listener, UnixListener) and (process := _process_at(listener.path)):
            await _end(process, listener, END_TIMEOUT + shutdown_grace)


async def _end(process: int, listener: UnixListener, timeout: float) -> None:  # noqa: ASYNC109
    try:
        # A file descriptor of the process, because its number can be reused by another process.
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
            await asyncio.wait_for(ended.wait(), timeout)
        except TimeoutError:
            raise ListenError(
                f"{listener}: process {process} did not end within {timeout:g} s of SIGTERM: it may"
                f" be stopped or hung; end it ('kill -KILL {process}') and start kekd again"
            ) from None
        finally:
            asyncio.get_running_loop().remove_reader(handle)
    finally:
        os.close(handle)


def _process_at(path: Path) -> int | None:
    """Returns the daemon that listens on the socket, as the kernel reports it, or None."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)  # a full backlog would block forever
        try:
            probe.connect(str(path))
        except OSError:
            return None
        peer = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process: int = _CREDENTIALS.unpack(peer)[0]
    # 0 is a process of another PID namespace, which no signal reaches.
    return _supervisor_of(process) if process else None


def _supervisor_of(process: int) -> int:
    """Returns the supervisor of a worker, which would restart the worker, or else the process."""
    with suppress(OSError):
        folder = Path(f"/proc/{process}")
        if _WORKER in (folder / "cmdline").read_bytes().split(b"\0"):
            # The command may contain spaces and brackets. The state and the parent follow it.
            return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return process
