"""The state of one request."""

import secrets
from collections.abc import Callable
from itertools import count
from typing import Final

from kekd_server.access.identity.principal import Principal
from kekd_server.access.lease import Lease
from kekd_server.model.deadline import Deadline

_PROCESS: Final = secrets.token_hex(4)
_NUMBERS: Final = count()
"""Random bytes for each request would take longer than the rest of its audit."""


class RequestContext:
    """Created once, where a call arrives, and passed down as an argument. Immutable."""

    # Not a frozen dataclass, which takes twice as long to create.
    __slots__ = (
        *("deadline", "lease", "on_store_selected"),
        *("peer", "principal", "request_id"),
    )

    def __init__(
        self,
        principal: Principal,
        *,
        peer: str,
        deadline: Deadline,
        lease: Lease,
        on_store_selected: Callable[[str], None],
    ) -> None:
        """`peer`: the caller's address, in gRPC's notation. `on_store_selected`: gets the name of
        the store that the call uses.
        """
        self.principal: Final = principal
        self.peer: Final = peer
        self.deadline: Final = deadline
        self.lease: Final = lease
        self.on_store_selected: Final = on_store_selected
        self.request_id: Final = make_request_id()
        """Identifies the call in the log and the audit."""


def make_request_id() -> str:
    return f"{_PROCESS}{next(_NUMBERS):08x}"
