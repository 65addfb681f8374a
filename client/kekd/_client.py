"""The blocking client."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

# `kekd.Hold` and others are imported on first use, also by `typing.get_type_hints`.
import kekd
from kekd import _cache
from kekd import _operations as operations
from kekd._cache import DEFAULT_MAX_STALENESS
from kekd._models import EnvelopeLike, GetResult, KMSBlob, Push, PushResult, StorageConfig
from kekd._transport import timeouts
from kekd._transport.caller import Caller
from kekd._transport.channel import Connector
from kekd._transport.endpoint import Endpoint
from kekd._transport.operation import SERVICE, Operation
from kekd._transport.tls import Tls

Result = TypeVar("Result")


class Client:
    """Calls a daemon. The methods have the names and arguments of cyborgdb_core 0.18.

    `address` is `unix:PATH`, `unix:///PATH`, `HOST:PORT` or `[IPV6]:PORT`. The default is the
    variable KEKD_ADDRESS, or else the default socket of a daemon that the same user runs.

    `tls` names the PEM files for calling HOST:PORT over TLS. The default is the variables KEKD_CA,
    KEKD_CERT, KEKD_KEY and KEKD_SERVER_NAME. The constructor raises ValueError for files that can't
    be used, and for TLS with a Unix socket. A client that calls another machine without TLS emits
    one warning through `warnings`.

    `timeout` is the number of seconds that a call may take, including its retries. Each method
    accepts another value for one call. The client retries a call if the daemon or its store is
    unreachable, with exponential backoff and jitter, until the timeout. A client that has never
    reached its daemon gives up after eight attempts, which take about three seconds. A write that
    is retried is applied once.

    With `cache`, `get_index_kms` returns envelopes from memory while the client watches their
    store. It sees a change that the same daemon has acknowledged as soon as the watch reports it,
    and the client's own changes immediately. After `max_staleness` seconds without a message from
    the daemon, the client calls it again. docs/caching.md describes the guarantees.

    Threads can share a client. A forked process can use its parent's client if no other thread is
    in a call and no `AsyncClient` is open during the fork, and if kekd was imported before grpc or
    the variable GRPC_ENABLE_FORK_SUPPORT is 1. With grpcio before 1.64, gRPC itself ends a few such
    children in a hundred, with exit code 64. To close the connection, call `close` or use the
    client in a `with` statement.

    Every method raises `EnvelopeError`; `kekd.errors` describes its subclasses. As in
    cyborgdb_core, an argument of the wrong type raises TypeError. A timeout that isn't more than 0
    and at most 10**9 raises ValueError.
    """

    _caches: _cache.ThreadCacheManager | None = None

    def __init__(
        self,
        address: str | None = None,
        *,
        tls: Tls | None = None,
        timeout: float = timeouts.DEFAULT_TIMEOUT,
        cache: bool = False,
        max_staleness: float = DEFAULT_MAX_STALENESS,
    ) -> None:
        connector = Connector(Endpoint.from_environment(address, tls))
        self._caller = Caller(connector, timeout)
        if cache:
            self._caches = _cache.ThreadCacheManager(connector, max_staleness)
            # Ends the watches of a client that is garbage-collected without having been closed.
            weakref.finalize(self, self._caches.abandon).atexit = False

    @property
    def address(self) -> str:
        """The address of the daemon."""
        return self._caller.address

    def create_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        blob: EnvelopeLike,
        *,
        timeout: float | None = None,
    ) -> str:
        """Stores the envelope of an index that has none, and returns its etag.

        Raises `EnvelopeExistsError` if the index has one. Every write carries an idempotency key,
        so that the client can retry it when the response was lost. Raises `OutcomeUnknownError` if
        an earlier attempt may have been applied and the daemon can't find out.
        """
        return self._call(operations.create(config_location, index_name, blob), timeout)

    def push_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        blob: EnvelopeLike,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Stores the envelope of an index, replacing any that it has, and returns the new etag.

        With `if_etag`, replaces only an envelope with this etag. Otherwise raises
        `EtagMismatchError` and changes nothing.
        """
        return self._call(operations.push(config_location, index_name, blob, if_etag), timeout)

    def get_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        version_id: str | None = None,
        timeout: float | None = None,
    ) -> KMSBlob:
        """Returns the envelope of an index, with its etag.

        Raises `EnvelopeNotFoundError` if the index has none. With `version_id`, returns an earlier
        envelope, never from the cache. Raises `VersionNotFoundError` if there is no such version.
        """
        if self._caches is None or version_id is not None:
            operation = operations.get(config_location, index_name, version_id)
            return self._call(operation, timeout)
        cached = self._caches.get(config_location, index_name)
        if cached is not None:
            return cached
        operation = operations.get(config_location, index_name)
        with self._caches.read_through(config_location, operation.index_name) as fill:
            return fill(self._call(operation, timeout))

    def delete_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Deletes the envelope of an index, and returns whether it had one.

        With `if_etag`, raises `EtagMismatchError` if the envelope has another etag.
        """
        return self._call(operations.delete(config_location, index_name, if_etag), timeout)

    def list_index_kms(
        self,
        config_location: StorageConfig | None = None,
        prefix: str = "",
        *,
        show_deleted: bool = False,
        timeout: float | None = None,
    ) -> Iterator[str]:
        """Yields the names of the indexes that have an envelope.

        A name that exists during the whole iteration is yielded exactly once, despite concurrent
        writes. Reads the names page by page, the next page in advance. The timeout applies to each
        page. With `show_deleted`, also yields the names of deleted indexes that can be restored.
        """
        page = partial(operations.page, config_location, prefix, show_deleted=show_deleted)
        return self._caller.pages(page, timeout)

    def list_versions_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        full: bool = False,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> Iterator[kekd.EnvelopeVersion]:
        """Yields the versions of an index's envelope, newest first, also of a deleted index.

        The first version is the current envelope or its deletion. Yields nothing for an index
        without versions. With `full`, each version has its envelope. The timeout applies to each
        page of up to 100 versions, or `page_size` if you set it.
        """
        page = partial(
            operations.version_page, config_location, index_name, full=full, page_size=page_size
        )
        return self._caller.pages(page, timeout)

    def restore_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        version_id: str,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Stores the envelope of a version again, and returns its etag.

        Replaces any envelope that the index has. With `if_etag`, replaces only an envelope with
        this etag, and otherwise raises `EtagMismatchError`. Raises `VersionNotFoundError` if there
        is no such version.
        """
        operation = operations.restore(config_location, index_name, version_id, if_etag)
        return self._call(operation, timeout)

    def undelete_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        timeout: float | None = None,
    ) -> str:
        """Stores the last envelope of a deleted index again, and returns its etag.

        Raises `EnvelopeExistsError` if the index has an envelope, and `VersionNotFoundError` if no
        version is left.
        """
        return self._call(operations.undelete(config_location, index_name), timeout)

    def hold_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        reason: str,
        *,
        timeout: float | None = None,
    ) -> None:
        """Protects an index: its envelope can't be pushed, deleted, restored or destroyed, and none
        of its versions expires, until it is released. The index needs no envelope. A second hold
        replaces the first.
        """
        self._call(operations.hold(config_location, index_name, reason), timeout)

    def release_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        timeout: float | None = None,
    ) -> bool:
        """Ends the protection of an index, and returns whether there was one."""
        return self._call(operations.release(config_location, index_name), timeout)

    def find_hold_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        timeout: float | None = None,
    ) -> kekd.Hold | None:
        """Returns the hold on an index, or None."""
        return self._call(operations.find_hold(config_location, index_name), timeout)

    def import_versions_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        versions: Sequence[kekd.EnvelopeVersion],
        *,
        timeout: float | None = None,
    ) -> int:
        """Adds versions of a backup below those that an index has, and returns the number of those
        that it didn't have.

        `versions`: newest first with their envelopes, as `list_versions_index_kms` yields them. The
        current envelope doesn't change. Raises `HistoryConflictError` if the index has older
        versions, or has nothing and the newest of these is no deletion. Calls the daemon once for
        up to 100 versions. The timeout applies to each call. After an error, repeat the call: it
        does the rest.
        """
        imports = operations.version_imports(config_location, index_name, versions)
        return sum(self._call(operation, timeout) for operation in imports)

    def destroy_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        reason: str,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,
    ) -> kekd.DestructionReceipt:
        """Removes the envelope of an index and all its versions. Nothing undoes this.

        `reason`: for the audit log. With `if_etag`, only if the envelope has this etag or there is
        none; otherwise raises `EtagMismatchError`. Raises `EnvelopeHeldError` if the index is held.
        """
        operation = operations.destroy(config_location, index_name, reason, if_etag)
        return self._call(operation, timeout)

    def get_many_index_kms(
        self,
        config_location: StorageConfig | None,
        index_names: Iterable[str],
        *,
        timeout: float | None = None,
    ) -> Iterator[GetResult]:
        """Yields each name with its envelope, or with the exception of `get_index_kms` for it.

        Calls the daemon once for up to 1000 names. The timeout applies to each call.
        """
        for batch in operations.get_batches(config_location, index_names):
            while operation := batch.next_operation():
                batch.add_response(self._call(operation, timeout))
            yield from self._observe(batch.results())

    def push_many_index_kms(
        self,
        config_location: StorageConfig | None,
        items: Iterable[Push],
        *,
        timeout: float | None = None,
    ) -> Iterator[PushResult]:
        """Pushes many envelopes, each given as index name, envelope, and `if_etag` or None.

        Yields each name, in order, with its new etag, or with the exception of `push_index_kms` for
        it. Reads and pushes items while the results are read, up to 1000 or 60 kB per call. The
        timeout applies to each call. If a call fails as a whole, raises its exception; then its
        items may have been stored.
        """
        for batch in operations.push_batches(config_location, items):
            if isinstance(batch, Operation):
                yield from self._call(batch, timeout)
            else:
                yield batch

    def scan_index_kms(
        self,
        config_location: StorageConfig | None = None,
        prefix: str = "",
        *,
        timeout: float | None = None,
    ) -> Iterator[GetResult]:
        """Yields names as `list_index_kms` does, each with its envelope or why it can't be read."""
        page = partial(operations.full_page, config_location, prefix)
        return self._observe(self._caller.pages(page, timeout))

    def watch_index_kms(
        self,
        config_location: StorageConfig | None = None,
        prefix: str = "",
        *,
        timeout: float | None = None,
    ) -> Generator[kekd.Change | kekd.Resync, None, None]:
        """Yields a `Change` for every change to the envelopes of a store.

        The first event is a `Resync`. Another one follows whenever changes may have been missed.
        Reads after it are at least as fresh as the watch. To miss nothing, read all your envelopes
        again after each `Resync`, and the envelope that changed after each `Change`.

        Never ends by itself. Raises `UnavailableError` if the daemon is lost or silent for several
        heartbeats, and `WatchFellBehindError` if you read more slowly than changes arrive. Then
        start another watch. The timeout applies to the first event only.
        """
        events = self._caller.watch(operations.watch(config_location, prefix), timeout)
        observe = self._caches.observe_event if self._caches else _unchanged
        return (observe(event) for event in events if event is not None)

    def status(self, *, timeout: float | None = None) -> kekd.DaemonStatus:
        """Returns the status of the daemon, its stores and its certificates."""
        return self._call(operations.status(), timeout)

    def wait(self, timeout: float = timeouts.WAIT_TIMEOUT, *, service: str = SERVICE) -> None:
        """Waits until the daemon serves.

        `service` is a name of its health service. By default the daemon serves if at least one of
        its stores does; "" checks only that it runs; the name of a store checks that store.

        Raises the exception of the last attempt, `UnavailableError` or `DeadlineExceededError`,
        after `timeout` seconds. A timeout of 0 allows one attempt, which may take as long as any
        other call.
        """
        self._caller.wait(operations.check_health(self.address, service), timeout)

    def close(self) -> None:
        """Closes the connection and clears the cache. A later call opens another connection."""
        if self._caches:
            self._caches.close()
        self._caller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _observe(self, found: Iterable[GetResult]) -> Iterator[GetResult]:
        """Ensures that the cache doesn't return an older envelope than the caller gets here."""
        return map(self._caches.observe, found) if self._caches else iter(found)

    def _call(self, operation: Operation[Result], timeout: float | None) -> Result:
        try:
            return self._caller.call(operation, timeout)
        finally:
            if self._caches:
                self._caches.invalidate(operation.writes)


def _unchanged(event: kekd.Change | kekd.Resync) -> kekd.Change | kekd.Resync:
    return event
