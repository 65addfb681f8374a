"""File descriptors: how many the process may have, and how many of them are for connections."""

import resource
from typing import Final

MAX_CONNECTIONS: Final = 10_000
"""Of one listener. An idle one takes some 5 KB."""
_RESERVED: Final = 256
"""For stores, audit, metrics and the listeners, however many callers connect."""


def raise_limit() -> None:
    """To what the service manager permits. The soft limit is 1024 nearly everywhere, for the sake
    of programs that use select(2).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_per_listener(listeners: int) -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    free = limit - min(_RESERVED, limit // 2)
    return max(1, min(MAX_CONNECTIONS, free // listeners))
