"""The limit on file descriptors, and how many of them connections may use."""

import resource
from typing import Final

MAX_CONNECTIONS: Final = 10_000
"""Connections of one listener. An idle connection takes some 5 KB."""
_RESERVED: Final = 256
"""For stores, the audit log, metrics and listeners, however many clients connect."""


def raise_descriptor_limit() -> None:
    """Raises the soft limit to the hard limit. The soft limit is 1024 on most systems, for programs
    that use select(2).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_per_listener(listeners: int) -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    free = limit - min(_RESERVED, limit // 2)
    return max(1, min(MAX_CONNECTIONS, free // listeners))
