"""Whether each store answers, found out by asking it every few seconds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from kekd_server.errors import KekdError
from kekd_server.metrics import Metrics
from kekd_server.storage.store import Store
from kekd_server.stores import Stores

_PAUSE_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 4.0
"""How long a store may take to answer: one that hangs is so known to within nine seconds."""
_NOT_ASKED: Final = "it was not asked yet"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreHealth:
    name: str
    is_default: bool
    healthy: bool
    trouble: str
    """What keeps it from answering, if it doesn't."""


Changed: TypeAlias = Callable[[], Awaitable[None]]


class Health:
    """What is known of the stores. One that has yet to be asked isn't healthy."""

    def __init__(self, stores: Stores, metrics: Metrics) -> None:
        self._stores = stores
        self._metrics = metrics
        self._known = {
            store.name: StoreHealth(
                store.name, is_default=number == 0, healthy=False, trouble=_NOT_ASKED
            )
            for number, store in enumerate(stores)
        }

    def stores(self) -> Sequence[StoreHealth]:
        """The default one first."""
        return list(self._known.values())

    async def keep_up(self, changed: Changed) -> None:
        """Asks each store for as long as it is let, and tells when anything changed. One that hangs
        holds up no other.
        """
        async with asyncio.TaskGroup() as group:
            for store in self._stores:
                group.create_task(self._keep_asking(store, changed))

    async def _keep_asking(self, store: Store, changed: Changed) -> None:
        while True:
            # Never a second time while one hangs: they would take up the threads of the calls.
            asked = asyncio.create_task(_trouble(store))
            done, _ = await asyncio.wait([asked], timeout=_PATIENCE_SECONDS)
            if not done:
                await self._note(store.name, f"no answer in {_PATIENCE_SECONDS:g} s", changed)
            await self._note(store.name, await asked, changed)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _note(self, name: str, trouble: str, changed: Changed) -> None:
        before = self._known[name]
        now = self._known[name] = replace(before, healthy=not trouble, trouble=trouble)
        if now == before:
            return
        self._metrics.store(name).is_up(now.healthy)
        _log_change(before, now)
        await changed()


async def _trouble(store: Store) -> str:
    """What keeps it from answering; nothing, if it does."""
    try:
        await store.check()
    except KekdError as error:
        return str(error)
    except Exception:  # noqa: BLE001  (whatever it was, it has to be asked again)
        _log.exception("%s can't be asked whether it is well", store.name)
        return "internal error: the daemon's log has it"
    return ""


def _log_change(before: StoreHealth, now: StoreHealth) -> None:
    """Once each way, whatever else is wrong meanwhile."""
    if now.healthy and before.trouble != _NOT_ASKED:
        _log.warning("%s answers again", now.name)
    elif before.healthy or (before.trouble == _NOT_ASKED and not now.healthy):
        _log.error("%s doesn't answer: %s", now.name, now.trouble)
