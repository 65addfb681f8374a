"""What the daemon tells of itself to whoever may connect: nothing secret."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from kekd_server.access.principal import Caller
from kekd_server.storage.health import StoreHealth


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    file: str
    expires_at: datetime
    error: str
    """Why the files that are there now aren't in use; empty if they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStatus:
    """What stays as it is, and where to ask for what changes. Asking never waits."""

    started_at: datetime
    workers: int
    stores: Callable[[Caller], Sequence[StoreHealth]]
    """Those in which the caller may do anything."""
    certificates: Callable[[], Sequence[CertificateStatus]]
    warnings: Sequence[str]
    """What its operator should mend, as the start found it. For callers on this machine."""
    policy_error: Callable[[], str]
    """Why the policy file, as it is now, isn't in use; empty if it is."""
    audit_error: Callable[[], str]
    """Why the audit can't be written; empty if it can."""
