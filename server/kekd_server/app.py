"""The composition root: settings in, a running daemon out."""

import asyncio
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kekd_server.errors import KekdError
from kekd_server.listen import Listener, claimed
from kekd_server.rpc.server import Server
from kekd_server.service import EnvelopeService
from kekd_server.settings import Settings, SettingsError
from kekd_server.storage.disk import DiskDriver
from kekd_server.storage.location import DiskLocation, Location, MemoryLocation, S3Location
from kekd_server.storage.memory import MemoryDriver
from kekd_server.storage.store import Store
from kekd_server.stores import Stores

_log = logging.getLogger(__name__)

_DISK_THREADS: Final = 16
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


async def run(settings: Settings, *, serving: Callable[[], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once.

    Calls `serving` when callers can connect. Raises `SettingsError` and `ListenError`.
    """
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, signalled.set)
    with claimed(settings.listeners):
        stores = _open_stores(settings.locations)
        server = Server(EnvelopeService(stores))
        await server.start(settings.listeners)
        _log.info("serving %s on %s", _listed(settings.locations), _listed(settings.listeners))
        serving()
        await signalled.wait()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        _log.info("draining: calls in flight have %g s", settings.shutdown_grace)
        await server.stop(settings.shutdown_grace)
        stores.close()
    _log.info("stopped")


def _open_stores(locations: list[Location]) -> Stores:
    stores, problems = [], []
    for location in locations:
        try:
            stores.append(_open_store(location))
        except KekdError as error:
            problems.append(str(error))
    if problems:
        raise SettingsError(problems)
    return Stores(stores)


def _open_store(location: Location) -> Store:
    match location:
        case MemoryLocation():
            return Store(location, MemoryDriver(), threads=1, inline_get=True)
        case DiskLocation(path=path):
            driver = DiskDriver(Path(path))
            return Store(location, driver, threads=_DISK_THREADS, inline_get=True)
        case S3Location():
            # Imported here, as most daemons have no S3 store and boto3 is slow to import.
            from kekd_server.storage import s3  # noqa: PLC0415

            client = s3.connect(location)
            return Store(
                location, s3.S3Driver(client, location), threads=s3.CONNECTIONS, inline_get=False
            )


def _listed(items: list[Location] | list[Listener]) -> str:
    return ", ".join(str(item) for item in items)
