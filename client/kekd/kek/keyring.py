"""KEKs kept for a while: what a service asks at each request."""

import asyncio
import copy
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from kekd._models import StorageConfig
from kekd._transport.fork import reset_after_fork
from kekd.errors import (
    DeadlineExceededError,
    InternalError,
    ResourceExhaustedError,
    StoreMisconfiguredError,
    UnavailableError,
)
from kekd.kek.blocking import require_blocking
from kekd.kek.errors import (
    CredentialsUnavailableError,
    ExpiredCredentialsError,
    ProviderUnavailableError,
)
from kekd.kek.provider import scrub
from kekd.kek.registry import Registry

if TYPE_CHECKING:
    from kekd._client import Client

DEFAULT_TTL: Final = 60.0
DEFAULT_MAX_ENTRIES: Final = 1024

_REFRESH: Final = (0.75, 0.95)
"""A KEK is renewed after a part of its TTL that is drawn from between these, so that what was
loaded together isn't renewed together."""
_RETRY_SECONDS: Final = 1.0
"""Between two attempts to renew one."""
_LOADERS: Final = 16
"""Threads in which an `AsyncKeyring` loads, and as many in which any keyring renews."""

_MAX_SECONDS: Final = 10**9

_DOWN: Final = (
    CredentialsUnavailableError,
    DeadlineExceededError,
    ExpiredCredentialsError,
    InternalError,
    ProviderUnavailableError,
    ResourceExhaustedError,
    StoreMisconfiguredError,
    UnavailableError,
)
"""What leaves it open whether a KEK may still be used. Anything else says that it may not."""


class _AbandonedError(Exception):
    """Whoever loaded was stopped; somebody else must."""


class _CachedKey:
    """A KEK in memory, and for how long."""

    def __init__(self, kek: bytearray, ttl: float, max_stale: float) -> None:
        now = time.monotonic()
        self.kek = kek
        self.live = True
        self.refresh_pending = False
        """Whether it was tried to renew it, and nobody has said yet that it may be used or not."""
        self.refresh_at = now + ttl * random.uniform(*_REFRESH)  # noqa: S311  (no secret)
        self.expires = now + ttl
        self.ends = now + ttl + max_stale

    def is_usable(self, now: float) -> bool:
        return now < self.expires or (self.refresh_pending and now < self.ends)

    def scrub(self) -> None:
        self.live = False  # before it is overwritten: see `_Keyring._kept`
        scrub(self.kek)


class _Keyring:
    """What both kinds of keyring are; they differ in how they wait."""

    def __init__(  # noqa: PLR0913
        self,
        registry: Registry,
        client: "Client",
        config_location: StorageConfig | None = None,
        *,
        ttl: float = DEFAULT_TTL,
        max_stale: float = 0.0,
        max_entries: int = DEFAULT_MAX_ENTRIES,
    ) -> None:
        """Raises ValueError for a time or a number that can't be, and TypeError for an
        `AsyncClient`.
        """
        require_blocking(client)
        if not (0 < ttl <= _MAX_SECONDS and 0 <= max_stale <= _MAX_SECONDS and max_entries >= 0):
            raise ValueError(
                f"ttl={ttl}, max_stale={max_stale} and max_entries={max_entries} can't be: ttl is"
                f" more than 0 and at most {_MAX_SECONDS} seconds, max_stale likewise or 0, and"
                " max_entries at least 0."
            )
        self._registry = registry
        self._client = client
        self._config_location = config_location
        self._ttl = ttl
        self._max_stale = max_stale
        self._max_entries = max_entries
        self._keks: dict[str, _CachedKey] = {}
        """The one that was loaded longest ago, and so ends first, is the first."""
        self._loads: dict[str, Future[bytes]] = {}
        self._lock = threading.Lock()
        self._sweeper: threading.Timer | None = None
        self._renewals = threading.Semaphore(_LOADERS)
        reset_after_fork(self._reset_after_fork)
        caches: Any = getattr(client, "_caches", None)
        if caches:
            caches.add_listener(config_location, self)

    def invalidate(self, index_name: str) -> None:
        """Forgets a KEK, and whatever is being loaded for it: the next to ask loads it anew."""
        with self._lock:
            self._loads.pop(index_name, None)
            self._drop(index_name)

    def invalidate_all(self) -> None:
        """Forgets every KEK."""
        with self._lock:
            self._loads.clear()
            self._drop_all()

    def _reset_after_fork(self) -> None:
        """A forked child has none of its parent's threads: none sweeps, none ends a load."""
        self._lock = threading.Lock()
        self._renewals = threading.Semaphore(_LOADERS)
        self._loads = {}
        self._drop_all()

    def _kept(self, index_name: str) -> bytes | None:
        """Takes no lock, as every request comes here."""
        kept = self._keks.get(index_name)
        if kept is None:
            return None
        kek = bytes(kept.kek)
        # Still live after it was copied, so nothing was overwritten before.
        if not kept.live:
            return None
        now = time.monotonic()
        if not kept.is_usable(now):
            return None
        if now >= kept.refresh_at:
            self._renew(index_name, kept, now)
        return kek

    def _load(self, index_name: str) -> tuple[Future[bytes], bool]:
        """What will be the KEK, and whether the caller must see to that."""
        with self._lock:
            load = self._loads.get(index_name)
            if load is not None:
                return load, False
            load = Future()
            # Another load may have ended since the caller found nothing.
            kept = self._keks.get(index_name)
            if kept and kept.is_usable(time.monotonic()):
                load.set_result(bytes(kept.kek))
                return load, False
            self._loads[index_name] = load
            return load, True

    def _renew(self, index_name: str, kept: _CachedKey, now: float) -> None:
        if not self._renewals.acquire(blocking=False):
            return  # the next to ask will see to it
        with self._lock:
            if now < kept.refresh_at or not kept.live or index_name in self._loads:
                self._renewals.release()
                return  # another caller saw to it
            kept.refresh_at = now + _RETRY_SECONDS
            kept.refresh_pending = True
            load = self._loads[index_name] = Future()
        try:
            threading.Thread(target=self._run_renewal, args=(index_name, load), daemon=True).start()
        except RuntimeError as error:  # too many threads: as when somebody is down
            self._renewals.release()
            self._fail(index_name, load, error, is_down=True)

    def _run_renewal(self, index_name: str, load: Future[bytes]) -> None:
        try:
            self._run(index_name, load)
        finally:
            self._renewals.release()

    def _run(self, index_name: str, load: Future[bytes]) -> None:
        try:
            envelope = self._client.get_index_kms(self._config_location, index_name)
            kek = self._registry.unwrap(index_name, envelope)
        except Exception as error:  # noqa: BLE001  (all who wait for it must be told)
            self._fail(index_name, load, error, is_down=isinstance(error, _DOWN))
            return
        except BaseException:  # Ctrl-C in this thread, which isn't the others' to end by
            self._fail(index_name, load, _AbandonedError(), is_down=True)
            raise
        answer = bytes(kek)
        self._keep(index_name, load, kek)
        load.set_result(answer)

    def _keep(self, index_name: str, load: Future[bytes], kek: bytearray) -> None:
        with self._lock:
            if self._loads.get(index_name) is not load:
                scrub(kek)  # invalidated meanwhile, so it may be an old one
                return
            del self._loads[index_name]
            self._drop(index_name)
            self._keks[index_name] = _CachedKey(kek, self._ttl, self._max_stale)
            if len(self._keks) > self._max_entries:
                self._drop(next(iter(self._keks)))
            self._see_to_sweeping()

    def _fail(
        self, index_name: str, load: Future[bytes], error: Exception, *, is_down: bool
    ) -> None:
        with self._lock:
            if self._loads.get(index_name) is load:
                del self._loads[index_name]
                if not is_down:
                    self._drop(index_name)
                elif kept := self._keks.get(index_name):
                    kept.refresh_pending = True
                    kept.refresh_at = time.monotonic() + _RETRY_SECONDS
        load.set_exception(error)

    def _outcome(self, index_name: str, outcome: bytes | BaseException) -> bytes | None:
        """What a caller is answered with; None if it must load once more."""
        if isinstance(outcome, bytes):
            return outcome
        if isinstance(outcome, _AbandonedError):
            return None
        kek = self._kept(index_name) if isinstance(outcome, _DOWN) else None
        if kek is None:
            # Each has its own, as each adds its traceback.
            raise copy.copy(outcome).with_traceback(None) from outcome.__cause__
        return kek

    def _drop(self, index_name: str) -> None:
        kept = self._keks.pop(index_name, None)
        if kept:
            kept.scrub()

    def _drop_all(self) -> None:
        for index_name in list(self._keks):
            self._drop(index_name)

    def _see_to_sweeping(self) -> None:
        """A KEK that nobody asks for any more isn't to stay in memory."""
        if self._keks and not (self._sweeper and self._sweeper.is_alive()):
            first = next(iter(self._keks.values()))
            self._sweeper = threading.Timer(first.ends - time.monotonic(), self._sweep)
            self._sweeper.daemon = True
            try:
                self._sweeper.start()
            except RuntimeError:  # too many threads: then nobody would overwrite them
                self._drop_all()

    def _sweep(self) -> None:
        with self._lock:
            now = time.monotonic()
            for index_name in [name for name, kept in self._keks.items() if kept.ends <= now]:
                self._drop(index_name)
            self._sweeper = None
            self._see_to_sweeping()


class Keyring(_Keyring):
    """Answers with the KEKs of indexes, from memory where it has opened them lately.

    A KEK is kept for `ttl` seconds. One that is still asked for is renewed in the background before
    they end, so that nobody waits. However many ask at once for a KEK that isn't there, one of them
    loads it. At most `max_entries` are kept.

    While the daemon, AWS or the source of its credentials is down or silent, a KEK is served for at
    most `max_stale` seconds more: by default none. Any other failure to renew it says that it may
    not be used any more, and it is dropped at once. Failures aren't kept. A KEK is overwritten when
    it can't be served any more.

    If the client caches, a KEK is dropped as soon as the client is told that its envelope was
    changed. When changes may have been missed, as the daemon was restarted, KEKs stay until their
    time ends: or every service would ask AWS for all of them at once.

    KEKs of provider `none` are their callers' own, and never kept: give them to `Registry.unwrap`.

    Threads may share a keyring. A forked child may go on with its parent's, and finds it empty.
    """

    def kek(self, index_name: str) -> bytes:
        """The 32 bytes of an index's KEK, in a copy that only the caller has.

        Raises `kekd.EnvelopeError` and `KekError`; `KekRequiredError` for provider `none`.
        """
        kek = self._kept(index_name)
        while kek is None:
            load, is_ours = self._load(index_name)
            if is_ours:
                self._run(index_name, load)
            kek = self._outcome(index_name, load.exception() or load.result())
        return kek


class AsyncKeyring(_Keyring):
    """`Keyring` for asyncio. Its client is the blocking one, called in threads of its own."""

    _threads: ThreadPoolExecutor | None = None

    def _reset_after_fork(self) -> None:
        super()._reset_after_fork()
        self._threads = None

    async def kek(self, index_name: str) -> bytes:
        """See `Keyring.kek`."""
        kek = self._kept(index_name)
        while kek is None:
            load, is_ours = self._load(index_name)
            if is_ours:
                self._begin(index_name, load)
            # Shielded, as others may wait for it too.
            waited = asyncio.shield(asyncio.wrap_future(load))
            (outcome,) = await asyncio.gather(waited, return_exceptions=True)
            kek = self._outcome(index_name, outcome)
        return kek

    def _begin(self, index_name: str, load: Future[bytes]) -> None:
        self._threads = self._threads or ThreadPoolExecutor(_LOADERS)
        try:
            self._threads.submit(self._run, index_name, load)
        except RuntimeError as error:  # too many threads
            self._fail(index_name, load, error, is_down=True)
