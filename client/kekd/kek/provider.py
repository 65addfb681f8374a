"""What a provider of wrapping must do."""

from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import InvalidKekError

KEK_BYTES: Final = 32
"""AES-256."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A KEK as an envelope has it."""

    wrapped_kek: bytes = field(repr=False)
    key_arn: str = ""
    """The key that really wrapped it, where its name can come to mean another."""


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """The key that new KEKs are wrapped with."""

    arn: str
    enabled: bool
    state: str = ""
    """In the provider's own word, such as `PendingDeletion`."""
    deletion_time: int | None = None
    """When it is to be deleted, in seconds since 1970, if that is so and known."""


class Provider(Protocol):
    """Wraps and unwraps KEKs under one key. Threads may share it.

    Provider `none` has none of its own: its callers bring the KEK, and nothing is wrapped.

    Every method raises `KekError`, by the classes that `kekd.kek.errors` draws; nothing that it
    raises, logs or shows holds key bytes.
    """

    def wrap(self, kek: bytes | bytearray, binding: EncryptionContext | None) -> Wrapped: ...

    def unwrap(self, wrapped: Wrapped, binding: EncryptionContext | None) -> bytearray:
        """The KEK. Raises `UnwrapError` if it isn't what was wrapped, with this key and binding."""

    def describe(self) -> KeyDescription: ...


@runtime_checkable
class Rewrapper(Protocol):
    """A provider that can wrap a KEK anew without handing it out."""

    def rewrap(
        self,
        wrapped: Wrapped,
        binding: EncryptionContext | None,
        target: Provider,
        bound_to: EncryptionContext | None,
    ) -> Wrapped | None:
        """What `target` would have made of it; None where that takes unwrap and wrap."""


@runtime_checkable
class RotatedKey(Protocol):
    """A provider whose key can get new material, and keep its ARN."""

    def last_rotation(self, key_arn: str) -> int | None:
        """When it got that, in seconds since 1970; None for never."""


@runtime_checkable
class SecretCreator(Protocol):
    """A provider that can make the key that it wraps with."""

    def create(self) -> str:
        """The ARN of what was made."""


def checked(kek: bytes | bytearray) -> bytes | bytearray:
    """Raises `InvalidKekError` if it can't be a KEK."""
    if not isinstance(kek, (bytes, bytearray)):
        raise InvalidKekError(f"A KEK is {KEK_BYTES} bytes, and this is a {type(kek).__name__}.")
    if len(kek) != KEK_BYTES:
        raise InvalidKekError(f"A KEK is {KEK_BYTES} bytes, and this has {len(kek)}.")
    return kek


def scrub(kek: bytearray) -> None:
    """Overwrites a KEK that is no longer needed, as far as Python can: see docs/security.md."""
    kek[:] = bytes(len(kek))
