"""The interface of providers, which wrap and unwrap KEKs."""

from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import InvalidKekError

KEK_BYTES: Final = 32
"""The length of an AES-256 key."""


@dataclass(frozen=True, slots=True)
class WrappedKek:
    """A wrapped KEK, as envelopes store it."""

    wrapped_kek: bytes = field(repr=False)
    key_arn: str = ""
    """ARN of the key that wrapped it, if the slot names that key by an alias."""


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """The state of the key that wraps new KEKs."""

    arn: str
    enabled: bool
    state: str = ""
    """The provider's name for the state, such as `PendingDeletion`."""
    deletion_time: int | None = None
    """When the key will be deleted, in seconds since the Unix epoch. None if not scheduled."""


class Provider(Protocol):
    """Wraps and unwraps KEKs with one key. Thread-safe.

    Methods raise `KekError`; `kekd.kek.errors` describes its subclasses. No exception, log or repr
    contains key bytes. Provider `none` has no implementation: callers pass the KEK themselves.
    """

    def wrap(
        self, kek: bytes | bytearray, encryption_context: EncryptionContext | None
    ) -> WrappedKek: ...

    def unwrap(
        self, wrapped: WrappedKek, encryption_context: EncryptionContext | None
    ) -> bytearray:
        """Returns the KEK. Raises `UnwrapError` unless key and encryption context are the same."""

    def describe(self) -> KeyDescription: ...


@runtime_checkable
class Rewrapper(Protocol):
    """A provider that can wrap a KEK under another key without returning it."""

    def rewrap(
        self,
        wrapped: WrappedKek,
        encryption_context: EncryptionContext | None,
        target: Provider,
        new_context: EncryptionContext | None,
    ) -> WrappedKek | None:
        """Returns what `target` would wrap. None if that takes an unwrap and a wrap."""


@runtime_checkable
class RotatedKey(Protocol):
    """A provider whose key can get new material under the same ARN."""

    def last_rotation(self, key_arn: str) -> int | None:
        """Returns when it last did, in seconds since the Unix epoch. None for never."""


@runtime_checkable
class SecretCreator(Protocol):
    """A provider that can create its key."""

    def create(self) -> str:
        """Returns the ARN of the new key."""


def require_kek_bytes(kek: bytes | bytearray) -> bytes | bytearray:
    """Returns `kek`. Raises `InvalidKekError` unless it is 32 bytes."""
    if not isinstance(kek, (bytes, bytearray)):
        raise InvalidKekError(f"invalid KEK: expected {KEK_BYTES} bytes, got {type(kek).__name__}")
    if len(kek) != KEK_BYTES:
        raise InvalidKekError(f"invalid KEK: expected {KEK_BYTES} bytes, got {len(kek)}")
    return kek


def scrub(kek: bytearray) -> None:
    """Overwrites a KEK, as far as Python can. See docs/security.md."""
    kek[:] = bytes(len(kek))
