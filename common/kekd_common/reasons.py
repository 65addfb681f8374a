"""The reasons of failed calls, with their status codes. The daemon and the client share them.

Reasons are part of the API: a reason is never renamed, and never changes its status code. It is
sent in a `google.rpc.ErrorInfo` (https://google.aip.dev/193) with domain `DOMAIN`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

DOMAIN: Final = "kekd"


class Reason(StrEnum):
    """The `reason` of the ErrorInfo."""

    ENVELOPE_EXISTS = "ENVELOPE_EXISTS"
    """A strict create found an envelope."""
    ENVELOPE_NOT_FOUND = "ENVELOPE_NOT_FOUND"
    """The index has no envelope in this store."""
    VERSION_NOT_FOUND = "VERSION_NOT_FOUND"
    """The index has no version with this id, or it has expired."""
    INDEX_NAME_INVALID = "INDEX_NAME_INVALID"
    """The index name is empty, too long or not Unicode."""
    ENVELOPE_INVALID = "ENVELOPE_INVALID"
    """The request has no envelope, or an invalid one. The message lists every problem."""
    REQUEST_INVALID = "REQUEST_INVALID"
    """Another field of the request is out of range."""
    ETAG_MISMATCH = "ETAG_MISMATCH"
    """The stored envelope has another etag than if_etag: another caller wrote it."""
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    """An earlier attempt of this write may have been applied, and the daemon can't find out."""
    SHUTTING_DOWN = "SHUTTING_DOWN"
    """The daemon is shutting down and didn't start this call."""
    STORE_NOT_CONFIGURED = "STORE_NOT_CONFIGURED"
    """config_location matches none of the daemon's stores."""
    ACCESS_DENIED = "ACCESS_DENIED"
    """No policy rule allows the call. The message doesn't reveal whether the index exists."""
    UNAUTHENTICATED = "UNAUTHENTICATED"
    """The caller's certificate has expired, or the daemon can't take an identity from it."""
    ENVELOPE_CORRUPT = "ENVELOPE_CORRUPT"
    """The stored record is damaged."""
    STORE_MISCONFIGURED = "STORE_MISCONFIGURED"
    """The store needs operator action: it is read-only, full, missing, or denies access."""
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    """The store can't be reached at the moment; retry."""
    STORE_TIMEOUT = "STORE_TIMEOUT"
    """The store didn't answer before the deadline, or another process held its lock for seconds.
    A write may have been applied."""
    WATCH_FELL_BEHIND = "WATCH_FELL_BEHIND"
    """The caller read a watch too slowly. Restart the watch and discard cached data."""
    RESPONSE_FULL = "RESPONSE_FULL"
    """The response to a batch has no room for this entry. Request it again with fewer others."""
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    """The daemon has reached its limit of concurrent calls; retry later."""
    RATE_LIMITED = "RATE_LIMITED"
    """The caller exceeds its rate limit; retry after `retry_delay` in `google.rpc.RetryInfo`."""
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    """The audit log can't be written, so the daemon refused the call. Nothing changed."""
    HISTORY_UNAVAILABLE = "HISTORY_UNAVAILABLE"
    """The store can't keep a version, so the daemon refused the write. Nothing changed."""
    HISTORY_OFF = "HISTORY_OFF"
    """The store keeps no history, so the daemon refused to import versions. Nothing changed."""
    HISTORY_CONFLICT = "HISTORY_CONFLICT"
    """The versions of an import can't be below those that the index has. Nothing changed."""
    ENVELOPE_HELD = "ENVELOPE_HELD"
    """A hold protects the envelope. Nothing changed."""
    INTERNAL = "INTERNAL"
    """An unexpected failure. The daemon's log has it under the request_id."""


STATUS: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        Reason.ENVELOPE_EXISTS: "ALREADY_EXISTS",
        Reason.ENVELOPE_NOT_FOUND: "NOT_FOUND",
        Reason.VERSION_NOT_FOUND: "NOT_FOUND",
        Reason.INDEX_NAME_INVALID: "INVALID_ARGUMENT",
        Reason.ENVELOPE_INVALID: "INVALID_ARGUMENT",
        Reason.REQUEST_INVALID: "INVALID_ARGUMENT",
        Reason.ETAG_MISMATCH: "FAILED_PRECONDITION",
        # The standard code for "restart a read-modify-write sequence".
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
        Reason.RESPONSE_FULL: "RESOURCE_EXHAUSTED",
        Reason.TOO_MANY_CALLS: "RESOURCE_EXHAUSTED",
        Reason.RATE_LIMITED: "RESOURCE_EXHAUSTED",
        # Not UNAVAILABLE, which gRPC retries: an earlier attempt of a create may have been applied,
        # while this one wasn't.
        Reason.AUDIT_UNAVAILABLE: "FAILED_PRECONDITION",
        Reason.HISTORY_UNAVAILABLE: "FAILED_PRECONDITION",
        Reason.HISTORY_OFF: "FAILED_PRECONDITION",
        Reason.HISTORY_CONFLICT: "FAILED_PRECONDITION",
        Reason.ENVELOPE_HELD: "FAILED_PRECONDITION",
        Reason.INTERNAL: "INTERNAL",
    }
)
"""The name of each reason's gRPC status code."""
