"""A scripted daemon and KMS, and both kinds of keyring on them."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from typing import Any, cast

from kekd import Client, EnvelopeError, KMSBlob, StorageConfig
from kekd._cache.manager import CacheManager, Watcher
from kekd.kek import AsyncKeyring, KeyDescription, Keyring, Registry, Slot, WrappedKek
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import KekError
from tests.patience import PATIENCE

TTL = 100.0


class Clock:
    """Stands still until a test sets `now`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Backend:
    """The daemon that a keyring gets envelopes from, and the KMS that unwraps them."""

    _caches: CacheManager[Watcher] | None = None

    def __init__(self) -> None:
        self.loads: list[str] = []
        """The indexes of the loads, in order."""
        self.keks: list[bytearray] = []
        """The KEKs that were returned. The keyring owns and overwrites them."""
        self.failure: KekError | EnvelopeError | None = None
        self.interrupt = False
        """Whether Ctrl-C interrupts the next load."""
        self.provider = "aws-kms"
        self.registry = Registry({"prod": Slot("prod", "aws-kms", "key")}, provider=lambda _: self)
        self._open = threading.Event()
        self._open.set()

    @property
    def client(self) -> Client:
        return cast("Client", self)

    def hold(self) -> None:
        """Blocks all later loads until `release`."""
        self._open = threading.Event()

    def release(self) -> None:
        self._open.set()

    def get_index_kms(self, _: StorageConfig | None, index_name: str) -> KMSBlob:
        is_open = self._open
        self.loads.append(index_name)
        assert is_open.wait(PATIENCE)
        if self.interrupt:
            self.interrupt = False
            raise KeyboardInterrupt
        if isinstance(self.failure, EnvelopeError):
            raise self.failure
        return KMSBlob("prod", self.provider, "key", wrapped_kek=index_name.encode())

    def wrap(
        self, kek: bytes | bytearray, encryption_context: EncryptionContext | None
    ) -> WrappedKek:
        raise NotImplementedError

    def unwrap(
        self,
        wrapped: WrappedKek,
        encryption_context: EncryptionContext | None,  # noqa: ARG002
    ) -> bytearray:
        if self.failure:
            raise self.failure
        self.keks.append(bytearray(kek_of(wrapped.wrapped_kek.decode())))
        return self.keks[-1]

    def describe(self) -> KeyDescription:
        raise NotImplementedError


class BlockingAsyncKeyring:
    """An `AsyncKeyring` on an event loop of its own, called as if it were a `Keyring`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._keyring = AsyncKeyring(*args, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keyring, name)

    def kek(self, index_name: str) -> bytes:
        call = self._keyring.kek(index_name)
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


OpenKeyring = Callable[..., Keyring]
"""Returns a keyring of either kind on the backend, with the given options."""


def kek_of(index_name: str) -> bytes:
    return hashlib.sha256(index_name.encode()).digest()


def is_scrubbed(kek: bytearray) -> bool:
    return kek == bytes(32)


def is_idle(keyring: Keyring) -> bool:
    """Whether nothing is being loaded."""
    return not keyring._loads
