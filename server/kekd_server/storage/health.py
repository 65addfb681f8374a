"""Checks every few seconds whether each store answers and can be written."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from kekd_server.model.errors import KekdError, StoreUnavailableError
from kekd_server.observability.metrics import Metrics
from kekd_server.storage.registry import Stores
from kekd_server.storage.store import Store

_READ_CHECK_INTERVAL: Final = 5.0
_WRITE_CHECK_INTERVAL: Final = 1.0
"""Short, as it writes only while writes fail, and the end of that should be noticed soon."""
_LIMITATIONS_INTERVAL: Final = 1.0
_CHECK_TIMEOUT: Final = 4.0
"""Shows within nine seconds that a store hangs."""
_UNCHECKED: Final = "not checked yet"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreHealth:
    name: str
    is_default: bool
    healthy: bool
    """Whether it answers and can be written."""
    readable: bool
    """Whether it answers."""
    error_message: str
    """Why it isn't healthy; empty if it is."""
    warning: str
    """What it doesn't do that kekd needs, and what to do about it; empty if nothing is known."""
    history: str
    """See `Driver.describe_history`."""


OnChange: TypeAlias = Callable[[], Awaitable[None]]
Warn: TypeAlias = Callable[..., None]
"""Logs a warning, with the arguments of `Logger.warning`."""


class _CheckResults:
    """The results of one kind of check, by store: an error message, or empty if it succeeded."""

    def __init__(self, stores: Stores, *, failure: str, recovery: str) -> None:
        """`failure` and `recovery` are the log messages of the transitions."""
        self.errors = {store.name: _UNCHECKED for store in stores}
        self._failure = failure
        self._recovery = recovery

    def has_failed(self, name: str) -> bool:
        return self.errors[name] not in ("", _UNCHECKED)

    def set(self, name: str, error: str) -> bool:
        """Returns whether the result changed. Logs failed/recovered transitions only."""
        had_failed, previous = self.has_failed(name), self.errors[name]
        self.errors[name] = error
        if error and not had_failed:
            _log.error("%s %s: %s", name, self._failure, error)
        elif had_failed and not error:
            _log.warning("%s %s", name, self._recovery)
        return error != previous


class Health:
    """The health of the stores. A store is unhealthy until it is checked."""

    def __init__(self, stores: Stores, metrics: Metrics, *, warn: Warn = _log.warning) -> None:
        """`warn` logs what a store doesn't do that kekd needs."""
        self._stores = stores
        self._metrics = metrics
        self._warn = warn
        self._warnings: dict[str, str] = {}
        self._reads = _CheckResults(stores, failure="doesn't answer", recovery="answers again")
        self._writes = _CheckResults(
            stores, failure="cannot be written", recovery="can be written again"
        )

    def stores(self) -> Sequence[StoreHealth]:
        """Returns the default store first."""
        return [
            self._health_of(store, is_default=number == 0)
            for number, store in enumerate(self._stores)
        ]

    @property
    def is_checked(self) -> bool:
        """Whether each store has been checked since the start."""
        return all(
            self._reads.has_failed(store.name) or self._writes.errors[store.name] != _UNCHECKED
            for store in self._stores
        )

    async def run(self, on_change: OnChange) -> None:
        """Checks the stores until it is cancelled. A store that hangs doesn't delay the checks of
        the others, and writes that hang don't delay the checks of reads.
        """
        async with asyncio.TaskGroup() as group:
            for store in self._stores:
                group.create_task(self._run_read_checks(store, on_change))
                group.create_task(self._run_write_checks(store, on_change))
                group.create_task(self._find_limitations(store))

    async def _run_read_checks(self, store: Store, on_change: OnChange) -> None:
        while True:
            await self._check_reads(store, on_change)
            await asyncio.sleep(_READ_CHECK_INTERVAL)

    async def _run_write_checks(self, store: Store, on_change: OnChange) -> None:
        while True:
            if not self._reads.has_failed(store.name):
                await self._check_writes(store, on_change)
            await asyncio.sleep(_WRITE_CHECK_INTERVAL)

    async def _find_limitations(self, store: Store) -> None:
        """Waits until the store answers. Logs no errors, because the checks do."""
        while store.name not in self._warnings:
            if not self._reads.errors[store.name]:
                await self._set_warning(store)
            await asyncio.sleep(_LIMITATIONS_INTERVAL)

    async def _set_warning(self, store: Store) -> None:
        try:
            warning = await store.find_limitations()
        except StoreUnavailableError:
            return
        except KekdError:  # such as credentials that can only read
            warning = ""
        except Exception:  # noqa: BLE001  (after any error, the checks must continue)
            _log.exception("%s: the check for limitations failed", store.name)
            warning = ""
        self._warnings[store.name] = warning
        if warning:
            self._warn("%s: %s", store.name, warning)

    async def _check_reads(self, store: Store, on_change: OnChange) -> None:
        error = await self._run_check(store, store.check, self._reads, on_change)
        await self._set(store, self._reads, error, on_change)

    async def _check_writes(self, store: Store, on_change: OnChange) -> None:
        error = await self._run_check(store, store.check_writes, self._writes, on_change)
        if error:
            # If the store is down altogether, that is not reported as a failure of writes.
            await self._check_reads(store, on_change)
        if not self._reads.has_failed(store.name):
            await self._set(store, self._writes, error, on_change)

    async def _run_check(
        self,
        store: Store,
        check: Callable[[], Awaitable[None]],
        results: _CheckResults,
        on_change: OnChange,
    ) -> str:
        """Returns the error message. Reports a timeout while the check still runs."""
        # A check that hangs is never started again, or it would take up the check threads.
        task = asyncio.create_task(_error_of(store, check))
        done, _ = await asyncio.wait([task], timeout=_CHECK_TIMEOUT)
        if not done:
            error = f"no answer in {_CHECK_TIMEOUT:g} s; check its disk or network"
            await self._set(store, results, error, on_change)
        return await task

    async def _set(
        self, store: Store, results: _CheckResults, error: str, on_change: OnChange
    ) -> None:
        if results.set(store.name, error):
            health = self._health_of(store)
            metrics = self._metrics.stores.store(store.name)
            metrics.set_health(is_up=health.healthy, is_readable=health.readable)
            await on_change()

    def _health_of(self, store: Store, *, is_default: bool = False) -> StoreHealth:
        name = store.name
        read_error, write_error = self._reads.errors[name], self._writes.errors[name]
        if self._writes.has_failed(name):
            write_error = f"it can be read but not written: {write_error}"
        error_message = read_error or write_error
        return StoreHealth(
            name,
            is_default=is_default,
            healthy=not error_message,
            readable=not read_error,
            error_message=error_message,
            warning=self._warnings.get(name, ""),
            history=store.describe_history(),
        )


async def _error_of(store: Store, check: Callable[[], Awaitable[None]]) -> str:
    """Returns an error message; empty if the check succeeds."""
    try:
        await check()
    except KekdError as error:
        return str(error)
    except Exception:  # noqa: BLE001  (after any error, the checks must continue)
        _log.exception("%s: the health check failed", store.name)
        return "internal error: see the daemon's log"
    return ""
