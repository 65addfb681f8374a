"""One attempt of a write that the client may send again."""

import hashlib
import secrets
from collections.abc import Iterable
from typing import Final, NamedTuple, Self

ID_BYTES: Final = 16
RETENTION: Final = 60.0
"""Seconds for which a store recognizes the attempts of a write, at least. Clients retry for less
time, and a connection counts as dead before a request has waited in the network for that long.
"""


class WriteAttempt(NamedTuple):
    id: str
    """32 hex digits: the same in each attempt of a write, and in no other write."""
    is_retry: bool = False
    """Whether an earlier attempt may have reached a daemon, this one or another."""

    @classmethod
    def derive(cls, parts: Iterable[bytes], *, is_retry: bool) -> Self:
        """Returns the attempt of the write that `parts` identify. Equal parts give equal ids."""
        digest = hashlib.blake2b(digest_size=ID_BYTES)
        for part in parts:
            digest.update(len(part).to_bytes(4))
            digest.update(part)
        return cls(digest.hexdigest(), is_retry)

    @classmethod
    def single(cls) -> Self:
        """Returns the only attempt of a write."""
        return cls(secrets.token_hex(ID_BYTES))

    def entry(self, number: int) -> Self:
        """Returns the attempt of one entry of a batch."""
        parts = (bytes.fromhex(self.id), number.to_bytes(4))
        return self.derive(parts, is_retry=self.is_retry)
