"""The status that a daemon reports."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class StoreStatus:
    name: str
    """The name in the daemon's log, such as `disk:/var/lib/cyborgdb`."""
    is_default: bool
    """Whether calls without a `StorageConfig` use this store."""
    healthy: bool
    """The result of the daemon's last health check; asking for the status doesn't start one."""
    error_message: str = ""
    """Why the store is unhealthy, and what to do."""
    warning: str = ""
    """What the store doesn't do that kekd needs, and what to do."""
    history: str = ""
    """Where the store keeps earlier versions, and how many for how long; empty while the daemon
    doesn't know it."""


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    file: str
    """The path on the daemon's machine."""
    expires_at: datetime
    error: str = ""
    """Why the daemon rejected the current files and uses the previous ones; empty if it didn't."""


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    version: str
    started_at: datetime
    """When the process that answered started."""
    now: datetime
    """The daemon's clock."""
    engine: str
    """The gRPC server implementation at the called address: `grpcio` or `native`."""
    workers: int
    stores: tuple[StoreStatus, ...]
    """The stores that the caller has any access to. The default store is first, if included."""
    certificates: tuple[CertificateStatus, ...]
    warnings: tuple[str, ...] = ()
    """Problems that the operator should fix. Reported only to callers on the daemon's machine."""
    policy_error: str = ""
    """Why the daemon rejected the changed policy and uses the previous one; empty if it didn't."""
    audit_error: str = ""
    """Why the last write to the audit log failed; empty if it succeeded."""

    def clock_skew(self, sent_at: datetime, received_at: datetime) -> timedelta:
        """Returns the minimum clock skew, daemon minus client.

        The arguments are when the client sent the request and got the reply. The skew is zero if
        the daemon's time lies between the two.
        """
        return max(self.now - received_at, timedelta()) + min(self.now - sent_at, timedelta())
