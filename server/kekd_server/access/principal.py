"""Who makes a call."""

import secrets
from collections.abc import Callable
from itertools import count
from typing import Final

from kekd_server.access.lease import NO_LEASE, Lease, NoLease

_PROCESS: Final = secrets.token_hex(4)
_NUMBERS: Final = count()
"""As random bytes for each take longer than all else that is recorded of a call."""


def _lasting() -> None:
    pass


class Caller:
    """For one call."""

    __slots__ = ("check", "identity", "is_gone", "is_local", "lease", "peer", "request_id")

    def __init__(
        self, identity: str, *, is_local: bool, peer: str, check: Callable[[], None] = _lasting
    ) -> None:
        """`is_local`: it came by a listener that only this machine reaches. `peer`: its address, as
        gRPC has it.
        """
        self.identity = identity
        self.is_local = is_local
        self.peer = peer
        self.check = check
        """Raises `UnauthenticatedError` once its identity is over."""
        self.lease: Lease | NoLease = NO_LEASE
        """What this call takes of the limits."""
        self.is_gone = False
        """Whether nobody waits for the rest of a write."""
        self.request_id = f"{_PROCESS}{next(_NUMBERS):08x}"
        """What the log and the audit know this call by."""
