"""Makes a store for a location, with its driver, metrics and watcher."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from kekd_server.observability.metrics import Metrics
from kekd_server.observability.store_metrics import StoreMetrics
from kekd_server.observability.tracing import Tracing
from kekd_server.storage.disk.driver import DiskDriver
from kekd_server.storage.disk.watcher import DiskWatcher
from kekd_server.storage.driver import Driver
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.instrumented import InstrumentedDriver
from kekd_server.storage.location import DiskLocation, Location, MemoryLocation, S3Location
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.store import Store

_DISK_THREADS: Final = 16
_DISK_WRITE_CONCURRENCY: Final = 2
"""Parts of a batch at once: while one runs, the next one is ready."""
_DISK_WRITE_GROUP: Final = 32
"""Enough that thread switches and syncs of the folder don't take most of the time."""

Instrument = Callable[[Driver], Driver]


def make_store(
    location: Location,
    retention: Retention,
    *,
    s3_poll: float,
    metrics: Metrics,
    tracing: Tracing | None,
) -> Store:
    """Raises `StoreMisconfiguredError`."""
    store_metrics = metrics.stores.store(str(location))
    instrument = partial(
        InstrumentedDriver, store=str(location), metrics=store_metrics, tracing=tracing
    )
    match location:
        case MemoryLocation():
            store = Store(location, instrument(MemoryDriver(retention)), threads=1)
        case DiskLocation():
            store = _disk_store(location, retention, store_metrics, instrument)
        case S3Location():
            store = _s3_store(location, retention, s3_poll, store_metrics, instrument)
    store_metrics.bind_corrupt_records(lambda: store.corrupt_records)
    store_metrics.bind_watches(lambda: store.subscribers, lambda: store.watches_dropped)
    store_metrics.bind_history(
        store.history.totals,
        expired=lambda: store.history.removed,
        failures=lambda: store.history.failures.total,
        breaches=lambda: store.history.breaches,
    )
    return store


def _disk_store(
    location: DiskLocation, retention: Retention, metrics: StoreMetrics, instrument: Instrument
) -> Store:
    driver = DiskDriver(Path(location.path), retention)
    metrics.bind_cache_lookups(lambda: driver.cache.hits, lambda: driver.cache.misses)
    return Store(
        location,
        instrument(driver),
        threads=_DISK_THREADS,
        write_concurrency=_DISK_WRITE_CONCURRENCY,
        write_group=_DISK_WRITE_GROUP,
        watcher=DiskWatcher(driver),
        follow_changes=retention.is_on,
    )


def _s3_store(
    location: S3Location,
    retention: Retention,
    poll: float,
    metrics: StoreMetrics,
    instrument: Instrument,
) -> Store:
    # Imported here, because most daemons have no S3 store and boto3 is slow to import.
    from kekd_server.storage.s3.client import MAX_CONNECTIONS, make_client  # noqa: PLC0415
    from kekd_server.storage.s3.driver import S3Driver  # noqa: PLC0415
    from kekd_server.storage.s3.watch.change_log import S3ChangeLog  # noqa: PLC0415
    from kekd_server.storage.s3.watch.log_reader import S3LogReader  # noqa: PLC0415
    from kekd_server.storage.s3.watch.log_writer import S3LogWriter  # noqa: PLC0415
    from kekd_server.storage.s3.watch.watcher import S3Watcher  # noqa: PLC0415

    client = make_client(location, on_retry=metrics.count_retry)
    change_log = S3ChangeLog(client, location)
    log_writer = S3LogWriter(change_log, str(location))
    log_reader = S3LogReader(change_log, log_writer.has_written)
    driver = S3Driver(client, location, log_writer, retention, hold_check_interval=poll)
    return Store(
        # Clients may name the region, also if it comes from AWS's own chain.
        replace(location, region=client.endpoint.region),
        instrument(driver),
        threads=MAX_CONNECTIONS,
        gets_per_thread=1,
        write_concurrency=MAX_CONNECTIONS // 2,  # leaves connections for other calls
        watcher=S3Watcher(driver, log_reader, str(location), poll),
    )
