"""Returns KEKs from a cache: for services that need a KEK in each request."""

import asyncio
import copy
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from kekd._models import StorageConfig
from kekd._transport.fork import reset_after_fork
from kekd._transport.timeouts import MAX_TIMEOUT, require_timeout
from kekd.errors import (
    AuditUnavailableError,
    DeadlineExceededError,
    InternalError,
    ResourceExhaustedError,
    StoreMisconfiguredError,
    UnavailableError,
)
from kekd.kek.blocking import BlockingClient, require_blocking
from kekd.kek.errors import (
    CredentialsUnavailableError,
    ExpiredCredentialsError,
    ProviderUnavailableError,
)
from kekd.kek.key_cache import CachedKey, KeyCache
from kekd.kek.provider import scrub
from kekd.kek.registry import Registry

DEFAULT_TTL: Final = 60.0
DEFAULT_MAX_ENTRIES: Final = 1024

_RETRY_INTERVAL: Final = 1.0
"""Seconds between two attempts to refresh a KEK."""
_MAX_THREADS: Final = 16
"""For the loads of an `AsyncKeyring`, and for the refreshes of any keyring."""

_TRANSIENT_ERRORS: Final = (
    AuditUnavailableError,
    CredentialsUnavailableError,
    DeadlineExceededError,
    ExpiredCredentialsError,
    InternalError,
    ProviderUnavailableError,
    ResourceExhaustedError,
    StoreMisconfiguredError,
    UnavailableError,
)
"""These don't say whether a KEK may still be used. Any other error revokes it."""


class _AbandonedError(Exception):
    """The caller that loaded a KEK was interrupted. Another one must load it."""


class _Keyring:
    """The common part of both keyrings, which differ in how they wait.

    Loads a KEK once for all concurrent callers. A load is current while it is in `_loads`; an
    invalidation removes it, and then its result isn't cached.
    """

    def __init__(  # noqa: PLR0913
        self,
        registry: Registry,
        client: BlockingClient,
        config_location: StorageConfig | None = None,
        *,
        ttl: float = DEFAULT_TTL,
        max_stale: float = 0.0,
        max_entries: int = DEFAULT_MAX_ENTRIES,
    ) -> None:
        """Raises ValueError for an invalid number, and TypeError for an `AsyncClient`."""
        require_blocking(client)
        require_timeout(ttl, "ttl")
        if not (0 <= max_stale <= MAX_TIMEOUT and max_entries >= 0):
            raise ValueError(
                f"invalid max_stale={max_stale} or max_entries={max_entries}; use 0 to"
                f" {MAX_TIMEOUT} seconds, and at least 0 entries"
            )
        self._registry = registry
        self._client = client
        self._config_location = config_location
        self._cache = KeyCache(ttl, max_stale, max_entries)
        self._loads: dict[str, Future[bytes]] = {}
        self._refreshes = threading.Semaphore(_MAX_THREADS)
        reset_after_fork(self._reset_after_fork)
        caches: Any = getattr(client, "_caches", None)  # a `Client` with cache=True has some
        if caches:
            caches.add_listener(config_location, self)

    def invalidate(self, index_name: str) -> None:
        """Drops a KEK and any load of it that is in progress. The next request loads it again."""
        with self._cache.lock:
            self._loads.pop(index_name, None)
            self._cache.drop(index_name)

    def invalidate_all(self) -> None:
        """Drops all KEKs."""
        with self._cache.lock:
            self._loads.clear()
            self._cache.drop_all()

    def _reset_after_fork(self) -> None:
        """The child has none of the threads that complete its parent's loads."""
        self._refreshes = threading.Semaphore(_MAX_THREADS)
        self._loads = {}
        self._cache.reset_after_fork()

    def _cached(self, index_name: str) -> bytes | None:
        """Takes no lock, because every request runs this."""
        entry = self._cache.get(index_name)
        kek = entry.copy() if entry else None
        if entry is None or kek is None:
            return None
        now = time.monotonic()
        if not entry.is_usable(now):
            return None
        if now >= entry.refresh_at:
            self._refresh(index_name, entry, now)
        return kek

    def _join_load(self, index_name: str) -> tuple[Future[bytes], bool]:
        """Returns the future of the KEK, and whether the caller must run the load."""
        with self._cache.lock:
            load = self._loads.get(index_name)
            if load is not None:
                return load, False
            load = Future()
            # Another load may have completed since the caller found nothing.
            entry = self._cache.get(index_name)
            if entry and entry.is_usable(time.monotonic()):
                load.set_result(bytes(entry.kek))
                return load, False
            self._loads[index_name] = load
            return load, True

    def _refresh(self, index_name: str, entry: CachedKey, now: float) -> None:
        if not self._refreshes.acquire(blocking=False):
            return  # a later request starts it
        with self._cache.lock:
            if now < entry.refresh_at or not entry.is_live or index_name in self._loads:
                self._refreshes.release()
                return  # another request has started it
            entry.refresh_at = now + _RETRY_INTERVAL
            entry.refresh_pending = True
            load = self._loads[index_name] = Future()
        try:
            threading.Thread(target=self._run_refresh, args=(index_name, load), daemon=True).start()
        except RuntimeError as error:  # too many threads
            self._refreshes.release()
            self._fail(index_name, load, error, is_transient=True)

    def _run_refresh(self, index_name: str, load: Future[bytes]) -> None:
        try:
            self._run_load(index_name, load)
        finally:
            self._refreshes.release()

    def _run_load(self, index_name: str, load: Future[bytes]) -> None:
        try:
            envelope = self._client.get_index_kms(self._config_location, index_name)
            kek = self._registry.unwrap(index_name, envelope)
        except Exception as error:  # noqa: BLE001  (every caller that waits gets the error)
            is_transient = isinstance(error, _TRANSIENT_ERRORS)
            self._fail(index_name, load, error, is_transient=is_transient)
            return
        except BaseException:  # Ctrl-C in this thread must not end the other callers
            self._fail(index_name, load, _AbandonedError(), is_transient=True)
            raise
        result = bytes(kek)
        self._complete(index_name, load, kek)
        load.set_result(result)

    def _complete(self, index_name: str, load: Future[bytes], kek: bytearray) -> None:
        with self._cache.lock:
            if self._loads.get(index_name) is not load:
                scrub(kek)  # invalidated during the load, so the KEK may be outdated
                return
            del self._loads[index_name]
            self._cache.put(index_name, kek)

    def _fail(
        self, index_name: str, load: Future[bytes], error: Exception, *, is_transient: bool
    ) -> None:
        with self._cache.lock:
            if self._loads.get(index_name) is load:
                del self._loads[index_name]
                if not is_transient:
                    self._cache.drop(index_name)
                elif entry := self._cache.get(index_name):
                    entry.refresh_pending = True
                    entry.refresh_at = time.monotonic() + _RETRY_INTERVAL
        load.set_exception(error)

    def _outcome(self, index_name: str, result: bytes | BaseException) -> bytes | None:
        """Returns the KEK for a caller, or None if it must load again. Raises the load's error."""
        if isinstance(result, bytes):
            return result
        if isinstance(result, _AbandonedError):
            return None
        kek = self._cached(index_name) if isinstance(result, _TRANSIENT_ERRORS) else None
        if kek is None:
            # A copy for each caller, because each adds its traceback.
            raise copy.copy(result).with_traceback(None) from result.__cause__
        return kek


class Keyring(_Keyring):
    """Returns the KEKs of indexes, and caches them.

    Caches a KEK for `ttl` seconds. If it is still requested towards the end of that time, refreshes
    it in the background, so that callers don't wait. Loads a KEK once for all concurrent callers.
    Caches at most `max_entries` KEKs, and overwrites each when it expires or is evicted.

    If the daemon, AWS or the source of AWS credentials is unavailable, returns a KEK for at most
    `max_stale` more seconds: 0 by default. Any other failure to refresh a KEK revokes it, and the
    keyring drops it at once. Failures aren't cached.

    If the client has a cache, the keyring drops a KEK as soon as the client is notified that its
    envelope has changed. After a gap, such as a restart of the daemon, it keeps KEKs until they
    expire. Otherwise every service would call AWS for all of them at once.

    KEKs of provider `none` belong to their callers and aren't cached. Pass them to
    `Registry.unwrap`.

    Thread-safe. A forked child can use its parent's keyring, which is empty there.
    """

    def kek(self, index_name: str) -> bytes:
        """Returns a copy of the 32 bytes of an index's KEK.

        Raises `kekd.EnvelopeError` and `KekError`; for provider `none`, `KekRequiredError`.
        """
        kek = self._cached(index_name)
        while kek is None:
            load, is_own = self._join_load(index_name)
            if is_own:
                self._run_load(index_name, load)
            kek = self._outcome(index_name, load.exception() or load.result())
        return kek


class AsyncKeyring(_Keyring):
    """`Keyring` for asyncio. Takes a blocking client, which it calls in its own threads."""

    _threads: ThreadPoolExecutor | None = None

    def _reset_after_fork(self) -> None:
        super()._reset_after_fork()
        self._threads = None

    async def kek(self, index_name: str) -> bytes:
        """See `Keyring.kek`."""
        kek = self._cached(index_name)
        while kek is None:
            load, is_own = self._join_load(index_name)
            if is_own:
                self._start_load(index_name, load)
            # Shielded, because other callers may wait for the same load.
            shielded = asyncio.shield(asyncio.wrap_future(load))
            (result,) = await asyncio.gather(shielded, return_exceptions=True)
            kek = self._outcome(index_name, result)
        return kek

    def _start_load(self, index_name: str, load: Future[bytes]) -> None:
        self._threads = self._threads or ThreadPoolExecutor(_MAX_THREADS)
        try:
            self._threads.submit(self._run_load, index_name, load)
        except RuntimeError as error:  # too many threads
            self._fail(index_name, load, error, is_transient=True)
