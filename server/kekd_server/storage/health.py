"""Whether each store answers and can be written, found out by asking it every few seconds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from kekd_server.model.errors import KekdError
from kekd_server.observability.metrics import Metrics
from kekd_server.storage.registry import Stores
from kekd_server.storage.store import Store

_PAUSE_SECONDS: Final = 5.0
_WRITES_PAUSE_SECONDS: Final = 1.0
"""As it takes a write only where there is trouble, whose end should be known soon."""
_PATIENCE_SECONDS: Final = 4.0
"""How long a store may take to answer: one that hangs is so known to within nine seconds."""
_NOT_ASKED: Final = "it was not asked yet"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreHealth:
    name: str
    is_default: bool
    healthy: bool
    """Whether it answers, and can be written."""
    readable: bool
    """Whether it answers."""
    error_message: str
    """Why it isn't healthy; empty if it is."""


Changed: TypeAlias = Callable[[], Awaitable[None]]


class _Trouble:
    """Of one kind: what keeps each store from being read, or from being written."""

    def __init__(self, stores: Stores, *, begins: str, ends: str) -> None:
        """`begins` and `ends` are what the log says then."""
        self.of = {store.name: _NOT_ASKED for store in stores}
        self._begins = begins
        self._ends = ends

    def note(self, name: str, error_message: str) -> bool:
        """Whether it changed. Logs its begin and its end, whatever else is wrong meanwhile."""
        before, self.of[name] = self.of[name], error_message
        if error_message and before in ("", _NOT_ASKED):
            _log.error("%s %s: %s", name, self._begins, error_message)
        elif not error_message and before not in ("", _NOT_ASKED):
            _log.warning("%s %s", name, self._ends)
        return error_message != before


class Health:
    """What is known of the stores. One that has yet to be asked isn't healthy."""

    def __init__(self, stores: Stores, metrics: Metrics) -> None:
        self._stores = stores
        self._metrics = metrics
        self._reads = _Trouble(stores, begins="doesn't answer", ends="answers again")
        self._writes = _Trouble(stores, begins="can't be written", ends="can be written again")

    def stores(self) -> Sequence[StoreHealth]:
        """The default one first."""
        return [
            self._health_of(store.name, is_default=number == 0)
            for number, store in enumerate(self._stores)
        ]

    async def run(self, changed: Changed) -> None:
        """Asks each store for as long as it is let, and tells when anything changed. One that hangs
        holds up no other, and writes that hang don't hold up what is asked about reads.
        """
        async with asyncio.TaskGroup() as group:
            for store in self._stores:
                group.create_task(self._keep_reading(store, changed))
                group.create_task(self._keep_writing(store, changed))

    async def _keep_reading(self, store: Store, changed: Changed) -> None:
        while True:
            await self._ask_about_reads(store, changed)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _keep_writing(self, store: Store, changed: Changed) -> None:
        while True:
            if self._may_be_readable(store):
                await self._ask_about_writes(store, changed)
            await asyncio.sleep(_WRITES_PAUSE_SECONDS)

    async def _ask_about_reads(self, store: Store, changed: Changed) -> None:
        said = await self._answer(store, store.check, self._reads, changed)
        await self._note(store, self._reads, said, changed)

    async def _ask_about_writes(self, store: Store, changed: Changed) -> None:
        said = await self._answer(store, store.check_writes, self._writes, changed)
        if said:
            # What is gone altogether is no trouble of writes.
            await self._ask_about_reads(store, changed)
        if self._may_be_readable(store):
            await self._note(store, self._writes, said, changed)

    def _may_be_readable(self, store: Store) -> bool:
        return self._reads.of[store.name] in ("", _NOT_ASKED)

    async def _answer(
        self,
        store: Store,
        check: Callable[[], Awaitable[None]],
        error_message: _Trouble,
        changed: Changed,
    ) -> str:
        """What is wrong; that there is no answer is noted meanwhile."""
        # Never a second time while one hangs: they would take up the threads of the calls.
        asked = asyncio.create_task(_trouble_of(store, check))
        done, _ = await asyncio.wait([asked], timeout=_PATIENCE_SECONDS)
        if not done:
            await self._note(store, error_message, f"no answer in {_PATIENCE_SECONDS:g} s", changed)
        return await asked

    async def _note(
        self, store: Store, error_message: _Trouble, said: str, changed: Changed
    ) -> None:
        if error_message.note(store.name, said):
            now = self._health_of(store.name)
            store_metrics = self._metrics.stores.store(store.name)
            store_metrics.set_health(is_up=now.healthy, is_readable=now.readable)
            await changed()

    def _health_of(self, name: str, *, is_default: bool = False) -> StoreHealth:
        reads, writes = self._reads.of[name], self._writes.of[name]
        if writes not in ("", _NOT_ASKED):
            writes = f"it can be read and not written: {writes}"
        error_message = reads or writes
        return StoreHealth(
            name,
            is_default=is_default,
            healthy=not error_message,
            readable=not reads,
            error_message=error_message,
        )


async def _trouble_of(store: Store, check: Callable[[], Awaitable[None]]) -> str:
    """Empty if there is none."""
    try:
        await check()
    except KekdError as error:
        return str(error)
    except Exception:  # noqa: BLE001  (whatever it was, it has to be asked again)
        _log.exception("%s can't be asked whether it is well", store.name)
        return "internal error: the daemon's log has it"
    return ""
