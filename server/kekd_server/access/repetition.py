"""A call that repeats an earlier read."""

import time
from typing import Final

from kekd_server.access.identity.principal import Principal
from kekd_server.access.request_context import make_request_id


class Repetition:
    """What differs between two calls with the same request."""

    __slots__ = ("is_recorded", "peer", "principal", "request_id", "started_at")

    def __init__(self, principal: Principal, peer: str, request_id: str | None = None) -> None:
        """`peer`: the caller's address, in gRPC's notation."""
        self.principal: Final = principal
        self.peer: Final = peer
        self.request_id: Final = request_id or make_request_id()
        self.started_at: Final = time.monotonic()
        self.is_recorded = False
        """Whether the audit log has its line. Even a call that fails later must not be recorded
        twice."""
