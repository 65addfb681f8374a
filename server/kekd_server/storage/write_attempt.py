"""One attempt of a write that its caller may send again."""

import hashlib
import secrets
from collections.abc import Iterable
from typing import Final, NamedTuple, Self

ID_BYTES: Final = 16
RETENTION: Final = 60.0
"""Seconds for which a store recognises the attempts of a write, at least. It is longer than clients
retry, and longer than a request waits in the network before its connection counts as dead.
"""


class WriteAttempt(NamedTuple):
    id: str
    """32 hex digits: the same in each attempt of a write, and in no other write."""
    is_retry: bool = False
    """Whether an earlier attempt may have reached a daemon, this one or another."""

    @classmethod
    def derive(cls, parts: Iterable[bytes], *, is_retry: bool) -> Self:
        """The attempt of the write that these parts name. Equal parts give the same id."""
        digest = hashlib.blake2b(digest_size=ID_BYTES)
        for part in parts:
            digest.update(len(part).to_bytes(4))
            digest.update(part)
        return cls(digest.hexdigest(), is_retry)

    @classmethod
    def single(cls) -> Self:
        """The only attempt of a write."""
        return cls(secrets.token_hex(ID_BYTES))

    def entry(self, number: int) -> Self:
        """The attempt of one entry of a batch."""
        parts = (bytes.fromhex(self.id), number.to_bytes(4))
        return self.derive(parts, is_retry=self.is_retry)
