"""What a call can end with.

    EnvelopeError (a ValueError, as cyborgdb_core raises ValueError for everything)
    ├── EnvelopeExistsError        a strict create found an envelope
    ├── EnvelopeNotFoundError      the index has no envelope
    ├── InvalidArgumentError       the request breaks a rule
    │   ├── InvalidIndexNameError
    │   └── InvalidEnvelopeError
    ├── EtagMismatchError          another caller wrote since if_etag was read
    ├── OutcomeUnknownError        the write may have been applied, and replaced since
    ├── CorruptEnvelopeError       the stored record is damaged
    ├── PermissionDeniedError      this caller, or this config_location, isn't served
    ├── UnauthenticatedError       the daemon doesn't know who is calling
    ├── StoreMisconfiguredError         the daemon's store needs its operator
    ├── UnavailableError           the daemon or its store can't be reached; try again
    ├── DeadlineExceededError      the timeout ran out; a write may have been done or not
    ├── ResourceExhaustedError     the request is too large, or there are too many
    │   └── WatchFellBehindError   a watch was read more slowly than changes came
    └── InternalError              a failure that the daemon's log explains

Branch on the class, or on `reason`; never on the text.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kekd_common.reasons import Reason


class EnvelopeError(ValueError):
    """Any failure of a call to the daemon."""

    def __init__(
        self, message: str, *, reason: str = "", index_name: str = "", store: str = ""
    ) -> None:
        super().__init__(message)
        self.reason = reason
        """Stable and UPPER_SNAKE, from docs/protocol.md; empty where gRPC itself ended the call."""
        self.index_name = index_name
        self.store = store
        """The daemon's name for the store, such as `disk:/var/lib/cyborgdb`."""


class EnvelopeExistsError(EnvelopeError):
    pass


class EnvelopeNotFoundError(EnvelopeError):
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
        Reason.STORE_TIMEOUT: UnavailableError,
        Reason.WATCH_FELL_BEHIND: WatchFellBehindError,
        Reason.ANSWER_FULL: ResourceExhaustedError,
        Reason.TOO_MANY_CALLS: ResourceExhaustedError,
        Reason.RATE_LIMITED: ResourceExhaustedError,
        Reason.AUDIT_UNAVAILABLE: UnavailableError,
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
"""For a call without a reason, as gRPC or a proxy ended it. Any other is an EnvelopeError."""
