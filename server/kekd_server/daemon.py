"""A daemon that is ready to serve."""

import asyncio
import gc
import logging
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from kekd_schema import prepare_to_encode
from kekd_server.access.audit.audit_log import AuditLog
from kekd_server.access.audit.auditor import Auditor
from kekd_server.listeners.listener import Listener
from kekd_server.observability.metrics import Metrics
from kekd_server.observability.tracing import Tracing
from kekd_server.process.reloader import Reloader
from kekd_server.rpc.server import Server
from kekd_server.storage.registry import Stores

_METRICS_INTERVAL: Final = 1.0
_GC_THRESHOLD: Final = 50_000
"""Above the number of objects in a page of a listing, which are freed soon anyway."""
_TRACING_SHUTDOWN_TIMEOUT: Final = 2.0
_WARM_UP_DELAY: Final = 1.0
"""Seconds after the start, so that the imports don't delay the first answers."""

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Daemon:
    """Serves clients from `start` to `stop`."""

    server: Server
    listeners: Sequence[Listener]
    stores: Stores
    auditor: Auditor
    audit: AuditLog | None
    tracing: Tracing | None
    metrics: Metrics
    reloader: Reloader
    shutdown_grace: float
    _background_tasks: list[asyncio.Task[None]] = field(default_factory=list, init=False)
    _sampling_task: asyncio.Task[None] = field(init=False)

    async def start(self) -> None:
        """Raises `ListenError`."""
        await self.server.start(self.listeners)
        _tune_gc()
        warm_up = threading.Thread(target=_warm_up, name="warm-up", daemon=True)
        asyncio.get_running_loop().call_later(_WARM_UP_DELAY, warm_up.start)
        self._sampling_task = asyncio.create_task(self._sample_metrics())
        self._background_tasks = [
            asyncio.create_task(self.reloader.run()),
            *(asyncio.create_task(store.keep_history()) for store in self.stores),
        ]
        names = (store.name for store in self.stores)
        _log.info("serving %s on %s", _join(names), _join(map(str, self.listeners)))

    async def stop(self) -> None:
        """Drains calls in flight, then closes the stores and flushes the audit log and traces."""
        for task in self._background_tasks:
            task.cancel()
        self.server.stop_accepting()
        _log.info("draining: calls in flight have %g s", self.shutdown_grace)
        await self.server.drain(self.shutdown_grace)
        self._sampling_task.cancel()
        self.stores.close()
        self.auditor.flush()
        if self.audit:
            self.audit.close()
        self.metrics.sample()  # the last second; a worker's counters stay after it
        if self.tracing:
            with suppress(TimeoutError):
                closing = asyncio.to_thread(self.tracing.close)
                await asyncio.wait_for(closing, _TRACING_SHUTDOWN_TIMEOUT)

    async def _sample_metrics(self) -> None:
        while True:
            self.metrics.sample()
            await asyncio.sleep(_METRICS_INTERVAL)


def _tune_gc() -> None:
    """Exempts the objects of the start, which live as long as the process, from collection."""
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    gc.enable()


def _warm_up() -> None:
    prepare_to_encode()
    gc.freeze()


def _join(names: Iterable[str]) -> str:
    return ", ".join(names)
