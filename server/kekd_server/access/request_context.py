"""The state of one request."""

import secrets
from itertools import count
from typing import Final

from kekd_server.access.lease import NO_LEASE, Lease, NoLease
from kekd_server.access.principal import Principal
from kekd_server.model.deadline import Deadline

_PROCESS: Final = secrets.token_hex(4)
_NUMBERS: Final = count()
"""Random bytes for each request would take longer than the rest of its audit."""


class RequestContext:
    """Created once, where a call arrives, and passed down as an argument."""

    __slots__ = (
        *("deadline", "is_abandoned", "lease", "peer"),
        *("principal", "request_id", "store"),
    )

    def __init__(
        self,
        principal: Principal,
        *,
        peer: str,
        deadline: Deadline = None,
        lease: Lease | NoLease = NO_LEASE,
    ) -> None:
        """`peer`: the caller's address, in gRPC's notation."""
        self.principal = principal
        self.peer = peer
        self.deadline = deadline
        self.lease = lease
        self.is_abandoned = False
        """Whether the caller has stopped waiting for its write."""
        self.request_id = f"{_PROCESS}{next(_NUMBERS):08x}"
        """Identifies the call in the log and the audit."""
        self.store = ""
        """The name of the store, once the authorizer has selected it."""
