"""The status that the daemon reports to every client. It has no secrets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from kekd_server.access.identity.principal import Principal
from kekd_server.storage.health import StoreHealth


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    file: str
    expires_at: datetime
    error: str
    """Why the current files aren't in use; empty if they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStatus:
    """Fixed values, and functions for values that change. The functions never block."""

    started_at: datetime
    workers: int
    stores: Callable[[Principal], Sequence[StoreHealth]]
    """The stores to which the principal has access."""
    certificates: Callable[[], Sequence[CertificateStatus]]
    warnings: Sequence[str]
    """Problems that the start found, for the operator. Only local clients see them."""
    policy_error: Callable[[], str]
    """Why the current policy file isn't in use; empty if it is."""
    audit_error: Callable[[], str]
    """Why the audit log can't be written; empty if it can."""
