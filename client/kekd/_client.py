"""The blocking client."""

import time
import weakref
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from kekd import _operations as operations
from kekd._cache.envelope_cache import DEFAULT_MAX_STALENESS
from kekd._cache.watcher import ThreadCaches
from kekd._models import EnvelopeLike, Event, Found, KMSBlob, Push, Pushed, StorageConfig
from kekd._operations import Operation, Page
from kekd._status import DaemonStatus
from kekd._transport import channel, watch
from kekd._transport.retries import Retries
from kekd._transport.tls import Tls
from kekd.errors import UnavailableError

Result = TypeVar("Result")
Item = TypeVar("Item")


class Client:
    """Calls one daemon. Its methods have the names and arguments of cyborgdb_core 0.18.

    `address` is `unix:PATH`, `unix:///PATH`, `HOST:PORT` or `[IPV6]:PORT`; without it, that of the
    variable KEKD_ADDRESS, else the socket where a daemon of the same user listens by default.

    With `tls`, or the variables KEKD_CA, KEKD_CERT, KEKD_KEY and KEKD_SERVER_NAME, it calls
    HOST:PORT over TLS. Files that can't be used are a ValueError; so is TLS with a Unix socket. A
    client that calls another machine without TLS warns of that once, through `warnings`.

    `timeout` is how many seconds a call may take, its retries included; each method takes another
    for one call. A call that fails because the daemon or its store can't be reached is tried again,
    at growing intervals with jitter, until its timeout; by a client that never reached its daemon,
    eight times, which takes some three seconds. A write that is tried again is applied once.

    With `cache`, `get_index_kms` answers from memory what it read before, while the client watches
    the store that it came from: a change that the same daemon acknowledged to anyone is seen as
    soon as the watch tells of it, and the client's own at once. After `max_staleness` seconds
    without a word from the daemon, it is asked again. docs/caching.md has the whole contract.

    Threads may share a client. So may a process and those forked from it, if no other thread is in
    a call and no `AsyncClient` is open at the moment of the fork, and if kekd was imported before
    grpc or the variable GRPC_ENABLE_FORK_SUPPORT is 1. Close it, or use it in a `with`, to close
    the connection.

    Every method raises `EnvelopeError`, by the class that `kekd.errors` draws. An argument of the
    wrong type is a TypeError, as it is to cyborgdb_core, and a timeout that isn't more than 0 and
    at most 10**9 a ValueError.
    """

    caches: ThreadCaches | None = None
    """For `kekd.kek`, which listens to them."""

    def __init__(
        self,
        address: str | None = None,
        *,
        tls: Tls | None = None,
        timeout: float = channel.DEFAULT_TIMEOUT,
        cache: bool = False,
        max_staleness: float = DEFAULT_MAX_STALENESS,
    ) -> None:
        self.address = channel.resolve(address)
        self._dialer = channel.Dialer(self.address, tls)
        self._timeout = channel.checked_timeout(timeout)
        self._connection: channel.Connection | None = None
        if cache:
            self.caches = ThreadCaches(self._dialer, max_staleness)
            # The watches of a client that is forgotten without being closed end with it.
            weakref.finalize(self, self.caches.abandon).atexit = False

    def create_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        blob: EnvelopeLike,
        *,
        timeout: float | None = None,
    ) -> str:
        """Stores the envelope of an index that has none; its etag.

        Raises `EnvelopeExistsError` if there is one. Every write carries an idempotency key, so
        that the client can repeat it when its answer was lost. Raises `OutcomeUnknownError` if an
        attempt may have been applied, and the daemon can't tell any more.
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
        """Stores the envelope of an index, in place of any that is there; its new etag.

        With `if_etag`, only in place of the envelope that has this etag: else raises
        `EtagMismatchError`, and nothing changes.
        """
        return self._call(operations.push(config_location, index_name, blob, if_etag), timeout)

    def get_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        timeout: float | None = None,
    ) -> KMSBlob:
        """The envelope of an index, with its etag.

        Raises `EnvelopeNotFoundError` if there is none.
        """
        if self.caches is None:
            return self._call(operations.get(config_location, index_name), timeout)
        kept = self.caches.get(config_location, index_name)
        if kept is not None:
            return kept
        operation = operations.get(config_location, index_name)
        with self.caches.reading(config_location, operation.index_name) as keep:
            return keep(self._call(operation, timeout))

    def delete_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Removes the envelope of an index; whether there was one. None is no error.

        With `if_etag`, raises `EtagMismatchError` if there is one with another etag.
        """
        return self._call(operations.delete(config_location, index_name, if_etag), timeout)

    def list_index_kms(
        self,
        config_location: StorageConfig | None = None,
        prefix: str = "",
        *,
        timeout: float | None = None,
    ) -> Iterator[str]:
        """The names of the indexes that have an envelope, read a page at a time.

        A name that is there all the while comes exactly once, whatever is written meanwhile. The
        timeout is for each page. The next page is on its way while one is read.
        """
        return self._pages(partial(operations.page, config_location, prefix), timeout)

    def get_many_index_kms(
        self,
        config_location: StorageConfig | None,
        index_names: Iterable[str],
        *,
        timeout: float | None = None,
    ) -> Iterator[Found]:
        """Each name with its envelope, or with what `get_index_kms` of it would raise.

        Read up to a thousand at a time; the timeout is for each such call.
        """
        for batch in operations.batches(config_location, index_names):
            while operation := batch.next:
                batch.take(self._call(operation, timeout))
            yield from self._observed(batch.results())

    def push_many_index_kms(
        self,
        config_location: StorageConfig | None,
        items: Iterable[Push],
        *,
        timeout: float | None = None,
    ) -> Iterator[Pushed]:
        """Pushes many, each an index name, its envelope, and its `if_etag` or None. Each name, in
        their order, comes with its new etag, or with what `push_index_kms` of it would raise.

        Items are taken and pushed as the answers are read: up to a thousand, or 60 kB, at a time.
        The timeout is for each such call. If one fails as a whole, that is raised, and what it was
        to push may have been stored or not.
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
    ) -> Iterator[Found]:
        """Like `list_index_kms`, each name with its envelope, or with why it can't be read."""
        page = partial(operations.full_page, config_location, prefix)
        return self._observed(self._pages(page, timeout))

    def watch_index_kms(
        self,
        config_location: StorageConfig | None = None,
        prefix: str = "",
        *,
        timeout: float | None = None,
    ) -> Generator[Event, None, None]:
        """Tells of every change to the envelopes of a store, a `Change` each, as it is made.

        The first event is a `Resync`: what is read from then on is as new as what is told. Another
        comes whenever changes may have been missed. So whoever answers each `Resync` by reading
        what it holds again, and each `Change` by reading that envelope again, misses nothing.

        Doesn't end by itself. Raises `UnavailableError` once the daemon is lost, which includes a
        silence of several heartbeats, and `WatchFellBehindError` if changes came faster than they
        were read; then begin another. The timeout is for the first event only.
        """
        seconds = self._seconds(timeout)
        operation = operations.watch(config_location, prefix)
        events = watch.events(self._connected(), operation, seconds, self.address)
        observe = self.caches.observe_event if self.caches else _unchanged
        return (observe(event) for event in events if event is not None)

    def status(self, *, timeout: float | None = None) -> DaemonStatus:
        """What the daemon tells of itself, its stores and its certificates."""
        return self._call(operations.status(), timeout)

    def wait(
        self, timeout: float = channel.WAIT_TIMEOUT, *, service: str = operations.SERVICE
    ) -> None:
        """Returns as soon as the daemon serves: as a whole, which takes one of its stores at least,
        or what else is named to its health service. That is "" for being alive, whatever its stores
        do, and a store's name for that store.

        Raises what the last look failed with, `UnavailableError` or `DeadlineExceededError`, if it
        doesn't within `timeout` seconds. A timeout of 0 is for one look, which may take as long as
        any call of this client.
        """
        for seconds, tolerated in channel.looks(timeout, self._timeout):
            with suppress(*tolerated):
                self._look(operations.serving(self.address, service), seconds)
                return
            time.sleep(channel.WAIT_INTERVAL)

    def close(self) -> None:
        """Closes the connection, and drops what was cached. A later call opens another."""
        if self.caches:
            self.caches.close()
        connection, self._connection = self._connection, None
        if connection:
            connection.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _pages(self, page: Page[Item], timeout: float | None) -> Iterator[Item]:
        """Each is asked for while the one before it is read. That may take long: if nothing came of
        it, how things were then says nothing, and it is asked for again.
        """
        items, token = self._call(page(""), timeout)
        while token:
            following = page(token)
            ahead = channel.PendingCall(self._connected(), following, self._seconds(timeout))
            try:
                yield from items
                items, token = ahead.result() or self._call(following, timeout)
            finally:
                ahead.cancel()
        yield from items

    def _observed(self, found: Iterable[Found]) -> Iterator[Found]:
        """What a caller sees here, it doesn't see older from memory."""
        return map(self.caches.observe, found) if self.caches else iter(found)

    def _connected(self) -> channel.Connection:
        # Two threads may both come here first: then one connection serves one call only.
        connection = self._connection = self._dialer.dial(self._connection)
        return connection

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else channel.checked_timeout(timeout)

    def _call(self, operation: Operation[Result], timeout: float | None) -> Result:
        retries = Retries(operation, self._seconds(timeout), self._dialer)
        try:
            while True:
                try:
                    return operation.result(self._attempt(operation, retries.remaining))
                except grpc.RpcError as error:
                    delay = retries.delay_after(error)
                    if delay is None:
                        raise retries.exception(error) from None
                time.sleep(delay)
        finally:
            if self.caches:
                self.caches.change(operation.writes)

    def _look(self, operation: Operation[None], seconds: float) -> None:
        """A call of one attempt."""
        try:
            operation.result(self._attempt(operation, seconds))
        except grpc.RpcError as error:
            raise channel.translated(error, self.address, operation) from None

    def _attempt(self, operation: Operation[Any], seconds: float) -> Any:
        connection = self._connected()  # held while the attempt lasts
        try:
            answer = connection.method(operation)(operation.request, timeout=seconds)
        except ValueError:  # gRPC's word for a channel that was closed meanwhile
            raise UnavailableError(channel.CLOSED) from None
        self._dialer.has_connected = True
        return answer


def _unchanged(event: Event) -> Event:
    return event
