"""A KMS in memory."""

import hashlib
import hmac
import os
from collections import Counter
from typing import Final

from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import KekError, KeyDisabledError, TamperedError
from kekd.kek.provider import KEK_BYTES, KeyDescription, WrappedKek
from kekd.kek.slot import Slot

_NONCE_BYTES: Final = 16
_TAG_BYTES: Final = 16


class FakeKms:
    """Wraps and unwraps the KEKs of all slots, without a network and without secrecy.

    Pass it as `Registry(slots, provider=kms)`. As in AWS KMS, only the key and the encryption
    context that wrapped a KEK can unwrap it.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        """How often each of `wrap`, `unwrap` and `describe` was called."""
        self.failure: KekError | None = None
        """Raised by every request, such as `kekd.kek.errors.ProviderUnavailableError(...)`."""
        self._disabled: set[str] = set()

    def __call__(self, slot: Slot) -> "FakeProvider":
        return FakeProvider(self, slot)

    def disable(self, key_id: str) -> None:
        """Disables a key: requests with it raise `KeyDisabledError`."""
        self._disabled.add(key_id)

    def enable(self, key_id: str) -> None:
        self._disabled.discard(key_id)

    def is_enabled(self, key_id: str) -> bool:
        return key_id not in self._disabled

    def count(self, request: str) -> None:
        """Counts a request. Raises the failure that a test has set."""
        self.requests[request] += 1
        if self.failure:
            raise self.failure


class FakeProvider:
    """The `Provider` of a slot."""

    def __init__(self, kms: FakeKms, slot: Slot) -> None:
        self._kms = kms
        self._slot = slot
        self._arn = f"arn:aws:kms:us-east-1:000000000000:key/{slot.key_id.removeprefix('alias/')}"

    def wrap(
        self, kek: bytes | bytearray, encryption_context: EncryptionContext | None
    ) -> WrappedKek:
        self._request("wrap")
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = _xor(kek, self._keystream(nonce))
        return WrappedKek(
            nonce + ciphertext + self._tag(nonce + ciphertext, encryption_context), self._arn
        )

    def unwrap(
        self, wrapped: WrappedKek, encryption_context: EncryptionContext | None
    ) -> bytearray:
        self._request("unwrap")
        content, tag = wrapped.wrapped_kek[:-_TAG_BYTES], wrapped.wrapped_kek[-_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(content, encryption_context)):
            raise TamperedError(
                "cannot unwrap KEK: another key or encryption context wrapped it, or it was"
                " modified; restore the original",
                slot=self._slot.name,
                key_id=self._slot.key_id,
            )
        return bytearray(_xor(content[_NONCE_BYTES:], self._keystream(content[:_NONCE_BYTES])))

    def describe(self) -> KeyDescription:
        self._kms.count("describe")
        return KeyDescription(self._arn, self._kms.is_enabled(self._slot.key_id))

    def _request(self, name: str) -> None:
        self._kms.count(name)
        if not self._kms.is_enabled(self._slot.key_id):
            raise KeyDisabledError(
                "cannot use key: it is disabled; enable it",
                slot=self._slot.name,
                key_id=self._slot.key_id,
            )

    def _keystream(self, nonce: bytes) -> bytes:
        return hashlib.sha256(self._arn.encode() + nonce).digest()[:KEK_BYTES]

    def _tag(self, content: bytes, context: EncryptionContext | None) -> bytes:
        # The context is part of the message, as additional data.
        message = content + repr(context).encode()
        return hmac.digest(self._arn.encode(), message, "sha256")[:_TAG_BYTES]


def _xor(one: bytes | bytearray, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))
