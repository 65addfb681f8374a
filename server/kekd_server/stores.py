"""Opens the stores that the settings name."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kekd_server.config.errors import SettingsError
from kekd_server.config.exposed_files import store_exposures
from kekd_server.config.settings import Settings
from kekd_server.model.errors import KekdError, StoreMisconfiguredError
from kekd_server.model.file_trust import Exposure
from kekd_server.observability.metrics import Metrics
from kekd_server.observability.tracing import Tracing
from kekd_server.storage.factory import make_store
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.registry import Stores
from kekd_server.storage.store import Store

_OPEN_TIMEOUT: Final = 5.0
"""The daemon starts without a store that takes longer. `Health` keeps checking it."""

_log = logging.getLogger(__name__)


async def open_stores(settings: Settings, metrics: Metrics, tracing: Tracing | None) -> Stores:
    """Raises `SettingsError` for stores that need the operator. A store that is unavailable doesn't
    prevent the start.
    """
    stores = _make_stores(settings, metrics, tracing)
    opening = (_open(store, create=settings.create_stores) for store in stores)
    if problems := list(filter(None, await asyncio.gather(*opening))):
        raise SettingsError(problems)
    return Stores(stores)


async def find_exposures(stores: Stores) -> list[Exposure]:
    """Inspects the folders of the stores that answer."""
    found: list[Exposure] = []
    for store in stores:
        with suppress(TimeoutError):
            async with asyncio.timeout(_OPEN_TIMEOUT):
                found += await store.inspect(store_exposures)
    return found


async def create_keystores(settings: Settings, report: Callable[[str], None]) -> None:
    """Creates a keystore for each store on disk or S3 that has none.

    Reports one line for each store. Raises `SettingsError`.
    """
    problems = []
    for store in _make_stores(settings, Metrics(), None):
        if isinstance(store.location, MemoryLocation):
            continue
        try:
            is_new = await store.open(create=True)
        except KekdError as error:
            problems.append(str(error))
        else:
            outcome = "created a keystore" if is_new else "already exists"
            report(f"{store.name}: {outcome}")
    if problems:
        raise SettingsError(problems)


def _make_stores(settings: Settings, metrics: Metrics, tracing: Tracing | None) -> list[Store]:
    stores, problems = [], []
    for location, retention in settings.stores:
        try:
            store = make_store(
                *(location, retention),
                s3_poll=settings.s3_poll,
                metrics=metrics,
                tracing=tracing,
            )
        except KekdError as error:
            problems.append(str(error))
        else:
            stores.append(store)
    if problems:
        raise SettingsError(problems)
    return stores


async def _open(store: Store, *, create: bool) -> str:
    """Returns the problem that needs the operator, or ''."""
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT):
            if await store.open(create=create):
                _log.info("%s: created a keystore", store.name)
    except StoreMisconfiguredError as error:
        return str(error)
    except (KekdError, TimeoutError):
        pass  # `Health` reports it
    return ""
