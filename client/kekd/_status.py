"""What a daemon tells of itself."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class StoreStatus:
    name: str
    """As the daemon's log has it, such as `disk:/var/lib/cyborgdb`."""
    is_default: bool
    """Whether it is what `None` in the place of a `StorageConfig` means."""
    healthy: bool
    """As the daemon last found it; it looks by itself, and not because it is asked."""
    error_message: str = ""
    """Why it isn't healthy, and what to do."""


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    file: str
    """Where the daemon reads it."""
    expires_at: datetime
    error: str = ""
    """Why the files that are there now aren't in use; empty if they are."""


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    version: str
    started_at: datetime
    """Of the process that answered."""
    now: datetime
    """By the daemon's clock."""
    engine: str
    """`grpcio` or `native`: what speaks HTTP/2 at the address that was called."""
    workers: int
    stores: tuple[StoreStatus, ...]
    """Those in which the caller may do anything, the default store first if it is one of them."""
    certificates: tuple[CertificateStatus, ...]
    warnings: tuple[str, ...] = ()
    """What the operator should mend. The daemon tells only callers on its own machine."""
    policy_error: str = ""
    """Why the policy file, as it is now, isn't in use; empty if it is. The former policy is."""
    audit_error: str = ""
    """Why the audit couldn't be written the last time; empty if it could."""

    def clock_skew(self, asked: datetime, answered: datetime) -> timedelta:
        """How far, at least, the daemon's clock is ahead of the caller's, and if negative behind:
        by its own the caller asked and was answered at these times, and nothing when `now` is
        between them.
        """
        return max(self.now - answered, timedelta()) + min(self.now - asked, timedelta())


def apart(lead: timedelta) -> str:
    """Such a lead in words."""
    if not lead:
        return "as ours"
    seconds = lead.total_seconds()
    return f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} ours"
