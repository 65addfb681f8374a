"""Counts, times and traces the operations of a driver."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from types import TracebackType
from typing import Final

from kekd_common.reasons import Reason
from kekd_server.model.errors import KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.observability.store_metrics import StoreMetrics
from kekd_server.observability.tracing import Tracing
from kekd_server.storage.driver import Driver, NameRange, StoredRecord, ValidateVersion, WriteResult
from kekd_server.storage.history.destruction import Destruction
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.history.version import Origin, Version
from kekd_server.storage.history.version_import import ImportedVersion
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.monitor import WriteMonitor
from kekd_server.storage.writes.steps import Steps

_WRITES: Final = {
    "create": True,
    "put": True,
    "restore": True,
    "undelete": True,
    "import versions": True,
    "probe": True,
    "delete": False,
    "destroy": False,
}
"""The operations that write, and whether they store something."""


class InstrumentedDriver:
    """Counts, times and traces every operation of another driver except `get_cached` and `confirm`,
    which wait for nothing and are most of the cost of a fast get, and those of the background.
    """

    def __init__(
        self, driver: Driver, store: str, metrics: StoreMetrics, tracing: Tracing | None
    ) -> None:
        self._driver = driver
        self._store = store
        self._metrics = metrics
        self._tracing = tracing
        self._write_monitor = WriteMonitor()
        self._uncached_gets = 0
        metrics.bind_gets(lambda: self._uncached_gets)
        self.recognizes_attempts = driver.recognizes_attempts
        self.get_cached = driver.get_cached
        self.confirm = driver.confirm
        self.find_limitations = driver.find_limitations
        self.notice_change = driver.notice_change
        self.describe_history = driver.describe_history
        self.history_totals = driver.history_totals
        self.history_failures = driver.history_failures
        self.schedule_scan = driver.schedule_scan
        self.maintain_history = driver.maintain_history
        self.close = driver.close

    def open(self, *, create: bool = False) -> bool:
        with self._operation("open"):
            return self._driver.open(create=create)

    def check(self) -> None:
        with self._operation("check"):
            self._driver.check()

    def check_writes(self) -> None:
        """Tries a write if recent ones failed or hang."""
        if self._write_monitor.is_suspect():
            self.probe()
        else:
            self._driver.check_writes()

    def probe(self) -> None:
        with self._operation("probe"):
            self._driver.probe()

    def get(self, name: IndexName, *, bypass_cache: bool = False) -> StoredRecord:
        """Gets that bypass the cache are only counted: timing one costs half as much as the read
        itself.
        """
        if bypass_cache:
            try:
                stored = self._driver.get(name, bypass_cache=True)
            except KekdError as error:
                self._metrics.count_operation("get", error.reason)
                raise
            self._uncached_gets += 1
            return stored
        with self._operation("get"):
            return self._driver.get(name)

    def confirm_all(self, names: Sequence[IndexName], proofs: Sequence[bytes | None]) -> list[bool]:
        confirmed = self._driver.confirm_all(names, proofs)
        self._uncached_gets += sum(confirmed)
        return confirmed

    def create(
        self, name: IndexName, record: bytes, *, origin: Origin, attempt: WriteAttempt | None
    ) -> Steps[str]:
        with self._operation("create"):
            steps = self._driver.create(name, record, origin=origin, attempt=attempt)
            return (yield from steps)

    def put(
        self,
        name: IndexName,
        record: bytes,
        *,
        if_etag: str | None,
        origin: Origin,
        attempt: WriteAttempt | None,
    ) -> Steps[WriteResult]:
        with self._operation("put"):
            steps = self._driver.put(name, record, if_etag=if_etag, origin=origin, attempt=attempt)
            return (yield from steps)

    def restore(  # noqa: PLR0913
        self,
        name: IndexName,
        version_id: str,
        *,
        validate: ValidateVersion,
        if_etag: str | None,
        caller: str,
        attempt: WriteAttempt | None,
    ) -> Steps[WriteResult]:
        with self._operation("restore"):
            steps = self._driver.restore(
                *(name, version_id),
                validate=validate,
                if_etag=if_etag,
                caller=caller,
                attempt=attempt,
            )
            return (yield from steps)

    def undelete(
        self,
        name: IndexName,
        *,
        validate: ValidateVersion,
        caller: str,
        attempt: WriteAttempt | None,
    ) -> Steps[str]:
        with self._operation("undelete"):
            steps = self._driver.undelete(name, validate=validate, caller=caller, attempt=attempt)
            return (yield from steps)

    def delete(
        self,
        name: IndexName,
        *,
        if_etag: str | None,
        caller: str,
        attempt: WriteAttempt | None,
    ) -> Steps[str | None]:
        with self._operation("delete"):
            steps = self._driver.delete(name, if_etag=if_etag, caller=caller, attempt=attempt)
            return (yield from steps)

    def list(
        self,
        names: NameRange,
        after: IndexName | None,
        limit: int,
        *,
        listing: str,
        show_deleted: bool = False,
    ) -> list[IndexName]:
        with self._operation("list"):
            return self._driver.list(
                names, after, limit, listing=listing, show_deleted=show_deleted
            )

    def list_versions(self, name: IndexName, *, after: str, limit: int) -> Sequence[Version]:
        with self._operation("list versions"):
            return self._driver.list_versions(name, after=after, limit=limit)

    def get_version(self, name: IndexName, version_id: str) -> StoredRecord:
        with self._operation("get version"):
            return self._driver.get_version(name, version_id)

    def import_versions(
        self, name: IndexName, versions: Sequence[ImportedVersion]
    ) -> Sequence[Version]:
        with self._operation("import versions"):
            return self._driver.import_versions(name, versions)

    def destroy(
        self, name: IndexName, *, if_etag: str | None, digest: Callable[[bytes], str]
    ) -> Destruction:
        with self._operation("destroy"):
            return self._driver.destroy(name, if_etag=if_etag, digest=digest)

    def find_hold(self, name: IndexName) -> Hold | None:
        with self._operation("find hold"):
            return self._driver.find_hold(name)

    def hold(self, name: IndexName, hold: Hold) -> None:
        with self._operation("hold"):
            self._driver.hold(name, hold)

    def release(self, name: IndexName) -> bool:
        with self._operation("release"):
            return self._driver.release(name)

    def _operation(self, name: str) -> AbstractContextManager[None]:
        timer = _OperationTimer(name, self._metrics, self._write_monitor)
        if self._tracing is None:
            return timer
        return self._trace(self._tracing, name, timer)

    @contextmanager
    def _trace(self, tracing: Tracing, name: str, timer: "_OperationTimer") -> Iterator[None]:
        with tracing.operation(self._store, name), timer:
            yield


class _OperationTimer:
    """Times an operation and reports its outcome. A class, as a generator takes longer."""

    def __init__(self, operation: str, metrics: StoreMetrics, write_monitor: WriteMonitor) -> None:
        self._operation = operation
        self._metrics = metrics
        self._write_monitor = write_monitor if operation in _WRITES else None

    def __enter__(self) -> None:
        if self._write_monitor:
            self._write_monitor.begin(self)
        self._start = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        outcome = "ok" if error is None else getattr(error, "reason", Reason.INTERNAL)
        self._metrics.observe_operation(self._operation, outcome, perf_counter() - self._start)
        if self._write_monitor:
            self._write_monitor.end(self, error, stores_something=_WRITES[self._operation])
