"""Why a call failed: the one table that the daemon answers by and the client understands by.

A reason is part of the API: it is never renamed and never changes its status code. It travels in a
`google.rpc.ErrorInfo` (https://google.aip.dev/193) of domain `DOMAIN`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

DOMAIN: Final = "kekd"


class Reason(StrEnum):
    """Stable, UPPER_SNAKE, the `reason` of the ErrorInfo."""

    ENVELOPE_EXISTS = "ENVELOPE_EXISTS"
    """A strict create found an envelope."""
    ENVELOPE_NOT_FOUND = "ENVELOPE_NOT_FOUND"
    """The index has no envelope in this store."""
    INDEX_NAME_INVALID = "INDEX_NAME_INVALID"
    """The index name is empty, too long or not Unicode."""
    ENVELOPE_INVALID = "ENVELOPE_INVALID"
    """The envelope sent is missing or breaks a rule; the message names every rule it breaks."""
    REQUEST_INVALID = "REQUEST_INVALID"
    """Another field of the request is out of its range."""
    ETAG_MISMATCH = "ETAG_MISMATCH"
    """The stored envelope isn't the one that if_etag names; somebody else wrote it meanwhile."""
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    """An earlier attempt of this write may have been applied, and nothing that is left shows it."""
    SHUTTING_DOWN = "SHUTTING_DOWN"
    """The daemon is shutting down and did not begin this call."""
    STORE_NOT_CONFIGURED = "STORE_NOT_CONFIGURED"
    """config_location matches none, or several, of the daemon's stores."""
    ACCESS_DENIED = "ACCESS_DENIED"
    """No rule of the daemon's policy lets this caller do this; whether the index exists isn't
    said."""
    UNAUTHENTICATED = "UNAUTHENTICATED"
    """The caller's certificate proves no name, or not any more."""
    ENVELOPE_CORRUPT = "ENVELOPE_CORRUPT"
    """The stored record is damaged."""
    STORE_MISCONFIGURED = "STORE_MISCONFIGURED"
    """The store needs its operator: not writable, full, gone, or access to it was refused."""
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    """The store can't be reached just now; try again."""
    STORE_TIMEOUT = "STORE_TIMEOUT"
    """The store hasn't answered for as long as the caller waits, or a few seconds where another
    process holds it; a write may have been done or not."""
    WATCH_FELL_BEHIND = "WATCH_FELL_BEHIND"
    """The caller read a watch more slowly than changes came; it has to begin anew."""
    ANSWER_FULL = "ANSWER_FULL"
    """An answer to a batch has no room for this one; ask for it again, with fewer others."""
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    """The daemon does as much at once as it may; try again later."""
    RATE_LIMITED = "RATE_LIMITED"
    """The caller makes more calls than it may; try again after the `retry_delay` of the
    `google.rpc.RetryInfo` beside this."""
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    """The audit can't be written, without which this isn't done; nothing was."""
    INTERNAL = "INTERNAL"
    """A failure that kekd doesn't know; the daemon's log has it under the request_id."""


STATUS: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        Reason.ENVELOPE_EXISTS: "ALREADY_EXISTS",
        Reason.ENVELOPE_NOT_FOUND: "NOT_FOUND",
        Reason.INDEX_NAME_INVALID: "INVALID_ARGUMENT",
        Reason.ENVELOPE_INVALID: "INVALID_ARGUMENT",
        Reason.REQUEST_INVALID: "INVALID_ARGUMENT",
        Reason.ETAG_MISMATCH: "FAILED_PRECONDITION",
        # The standard code for "read again, and start over at a higher level".
        Reason.OUTCOME_UNKNOWN: "ABORTED",
        Reason.SHUTTING_DOWN: "UNAVAILABLE",
        Reason.STORE_NOT_CONFIGURED: "PERMISSION_DENIED",
        Reason.ACCESS_DENIED: "PERMISSION_DENIED",
        Reason.UNAUTHENTICATED: "UNAUTHENTICATED",
        Reason.ENVELOPE_CORRUPT: "DATA_LOSS",
        Reason.STORE_MISCONFIGURED: "FAILED_PRECONDITION",
        Reason.STORE_UNAVAILABLE: "UNAVAILABLE",
        Reason.STORE_TIMEOUT: "DEADLINE_EXCEEDED",
        Reason.WATCH_FELL_BEHIND: "RESOURCE_EXHAUSTED",
        Reason.ANSWER_FULL: "RESOURCE_EXHAUSTED",
        Reason.TOO_MANY_CALLS: "RESOURCE_EXHAUSTED",
        Reason.RATE_LIMITED: "RESOURCE_EXHAUSTED",
        # Not UNAVAILABLE, at which gRPC tries again: a create that was tried before may have been
        # done, and this one wasn't.
        Reason.AUDIT_UNAVAILABLE: "FAILED_PRECONDITION",
        Reason.INTERNAL: "INTERNAL",
    }
)
"""The gRPC status code, by name, that each reason travels under."""
