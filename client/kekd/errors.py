"""The exceptions of calls to a daemon.

    EnvelopeError (a ValueError, because cyborgdb_core raises ValueError for everything)
    ├── EnvelopeExistsError        a strict create found an envelope
    ├── EnvelopeNotFoundError      the index has no envelope
    │   └── VersionNotFoundError   the index has no such version, or it has expired
    ├── InvalidArgumentError       the request is invalid
    │   ├── InvalidIndexNameError
    │   └── InvalidEnvelopeError
    ├── EtagMismatchError          another caller wrote the envelope since if_etag was read
    ├── OutcomeUnknownError        the write may have been applied, and replaced since
    ├── CorruptEnvelopeError       the stored record is damaged
    ├── PermissionDeniedError      the caller has no access, or config_location matches no store
    ├── UnauthenticatedError       the daemon can't identify the caller
    ├── StoreMisconfiguredError    the daemon's store needs operator action
    ├── AuditUnavailableError      the daemon's audit log needs operator action; nothing changed
    ├── HistoryUnavailableError    the store can't keep a version; nothing changed
    ├── HistoryOffError            the store keeps no history, so it imports none
    ├── HistoryConflictError       an import has no place below the versions of the index
    ├── EnvelopeHeldError          a hold protects the envelope; nothing changed
    ├── UnavailableError           the daemon or its store is unreachable; retry later
    ├── DeadlineExceededError      the daemon or its store timed out; a write may have been applied
    ├── ResourceExhaustedError     the request is too large, or a limit was reached
    │   └── WatchFellBehindError   the watch was read more slowly than changes arrived
    └── InternalError              an unexpected failure, explained in the daemon's log

Branch on the class or on `reason`, never on the message.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kekd_common.reasons import Reason


class EnvelopeError(ValueError):
    """Base class of all exceptions of calls."""

    def __init__(
        self, message: str, *, reason: str = "", index_name: str = "", store: str = ""
    ) -> None:
        super().__init__(message)
        self.reason = reason
        """One of the reasons in docs/protocol.md. Empty if gRPC itself ended the call."""
        self.index_name = index_name
        self.store = store
        """The daemon's name for the store, such as `disk:/var/lib/cyborgdb`."""


class EnvelopeExistsError(EnvelopeError):
    pass


class EnvelopeNotFoundError(EnvelopeError):
    pass


class VersionNotFoundError(EnvelopeNotFoundError):
    pass


class InvalidArgumentError(EnvelopeError):
    pass


class InvalidIndexNameError(InvalidArgumentError):
    pass


class InvalidEnvelopeError(InvalidArgumentError):
    pass


class EtagMismatchError(EnvelopeError):
    pass


class OutcomeUnknownError(EnvelopeError):
    pass


class CorruptEnvelopeError(EnvelopeError):
    pass


class PermissionDeniedError(EnvelopeError):
    pass


class UnauthenticatedError(EnvelopeError):
    pass


class StoreMisconfiguredError(EnvelopeError):
    pass


class AuditUnavailableError(EnvelopeError):
    pass


class HistoryUnavailableError(EnvelopeError):
    pass


class HistoryOffError(EnvelopeError):
    pass


class HistoryConflictError(EnvelopeError):
    pass


class EnvelopeHeldError(EnvelopeError):
    pass


class UnavailableError(EnvelopeError):
    pass


class DeadlineExceededError(EnvelopeError):
    pass


class ResourceExhaustedError(EnvelopeError):
    pass


class WatchFellBehindError(ResourceExhaustedError):
    pass


class InternalError(EnvelopeError):
    pass


BY_REASON: Final[Mapping[str, type[EnvelopeError]]] = MappingProxyType(
    {
        Reason.ENVELOPE_EXISTS: EnvelopeExistsError,
        Reason.ENVELOPE_NOT_FOUND: EnvelopeNotFoundError,
        Reason.VERSION_NOT_FOUND: VersionNotFoundError,
        Reason.INDEX_NAME_INVALID: InvalidIndexNameError,
        Reason.ENVELOPE_INVALID: InvalidEnvelopeError,
        Reason.REQUEST_INVALID: InvalidArgumentError,
        Reason.ETAG_MISMATCH: EtagMismatchError,
        Reason.OUTCOME_UNKNOWN: OutcomeUnknownError,
        Reason.SHUTTING_DOWN: UnavailableError,
        Reason.STORE_NOT_CONFIGURED: PermissionDeniedError,
        Reason.ACCESS_DENIED: PermissionDeniedError,
        Reason.UNAUTHENTICATED: UnauthenticatedError,
        Reason.ENVELOPE_CORRUPT: CorruptEnvelopeError,
        Reason.STORE_MISCONFIGURED: StoreMisconfiguredError,
        Reason.STORE_UNAVAILABLE: UnavailableError,
        Reason.STORE_TIMEOUT: DeadlineExceededError,
        Reason.WATCH_FELL_BEHIND: WatchFellBehindError,
        Reason.RESPONSE_FULL: ResourceExhaustedError,
        Reason.TOO_MANY_CALLS: ResourceExhaustedError,
        Reason.RATE_LIMITED: ResourceExhaustedError,
        Reason.AUDIT_UNAVAILABLE: AuditUnavailableError,
        Reason.HISTORY_UNAVAILABLE: HistoryUnavailableError,
        Reason.HISTORY_OFF: HistoryOffError,
        Reason.HISTORY_CONFLICT: HistoryConflictError,
        Reason.ENVELOPE_HELD: EnvelopeHeldError,
        Reason.INTERNAL: InternalError,
    }
)

BY_STATUS: Final[Mapping[str, type[EnvelopeError]]] = MappingProxyType(
    {
        "ABORTED": OutcomeUnknownError,
        "ALREADY_EXISTS": EnvelopeExistsError,
        "CANCELLED": UnavailableError,
        "DATA_LOSS": CorruptEnvelopeError,
        "INVALID_ARGUMENT": InvalidArgumentError,
        "NOT_FOUND": EnvelopeNotFoundError,
        "PERMISSION_DENIED": PermissionDeniedError,
        "UNAUTHENTICATED": UnauthenticatedError,
        "UNAVAILABLE": UnavailableError,
        "DEADLINE_EXCEEDED": DeadlineExceededError,
        "RESOURCE_EXHAUSTED": ResourceExhaustedError,
        "INTERNAL": InternalError,
    }
)
"""For calls without a reason, which gRPC or a proxy ended. Other statuses raise EnvelopeError."""
