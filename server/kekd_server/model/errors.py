"""The errors of the daemon. `rpc.errors` translates them to gRPC statuses.

KekdError
├── EnvelopeExistsError
├── EnvelopeNotFoundError
├── VersionNotFoundError
├── NothingToUndeleteError
├── CorruptVersionError
├── HistoryUnavailableError
├── HistoryOffError
├── HistoryConflictError
├── EnvelopeHeldError
├── InvalidIndexNameError
├── InvalidEnvelopeError
├── InvalidRequestError
├── EtagMismatchError
├── OutcomeUnknownError
├── ShuttingDownError
├── StoreNotConfiguredError
├── AccessDeniedError
├── UnauthenticatedError
├── CorruptEnvelopeError
├── StoreMisconfiguredError
│   └── NoKeystoreError
├── StoreUnavailableError
├── StoreTimeoutError
│   └── CallAbandonedError
├── WatchFellBehindError
├── ResponseFullError
├── TooManyCallsError
├── ShareTakenError
├── RateLimitedError
└── AuditUnavailableError
"""

import asyncio
from typing import ClassVar, Final

from kekd_common.reasons import STATUS, Reason

CALLER_GONE: Final = "CALLER_GONE"
"""The reason in the audit log for a caller that is gone, and so gets no `Reason`."""


class KekdError(Exception):
    """A failure that is reported to the caller. Its text is sent over the wire unchanged."""

    reason: ClassVar[Reason]
    index_name: str = ""
    store: str = ""


class EnvelopeExistsError(KekdError):
    reason = Reason.ENVELOPE_EXISTS

    def __init__(self, index_name: str) -> None:
        # The exact text of cyborgdb_core 0.18: existing callers match on it.
        super().__init__(f"KMS blob already exists for index '{index_name}'.")
        self.index_name = index_name


class EnvelopeNotFoundError(KekdError):
    reason = Reason.ENVELOPE_NOT_FOUND

    def __init__(self, index_name: str) -> None:
        # The exact text of cyborgdb_core 0.18: existing callers match on it.
        super().__init__(f"No KMS blob exists for index '{index_name}'.")
        self.index_name = index_name


class VersionNotFoundError(KekdError):
    reason = Reason.VERSION_NOT_FOUND

    def __init__(self, index_name: str, version_id: str, *, is_deletion: bool = False) -> None:
        why = (
            "it is a deletion, which has no envelope"
            if is_deletion
            else "it has expired, or it belongs to another index"
        )
        super().__init__(
            f"no version {version_id!r:.100} of index '{index_name}': {why}; choose another one"
            " (kekctl history)"
        )
        self.index_name = index_name


class NothingToUndeleteError(KekdError):
    reason = Reason.VERSION_NOT_FOUND

    def __init__(self, index_name: str) -> None:
        super().__init__(
            f"index '{index_name}' not undeleted: the store keeps no version of it; import a backup"
            " (kekctl import)"
        )
        self.index_name = index_name


class CorruptVersionError(KekdError):
    reason = Reason.ENVELOPE_CORRUPT

    def __init__(self, index_name: str, version_id: str, damage: str) -> None:
        super().__init__(
            f"version {version_id} of index '{index_name}' is corrupt: {damage}; choose another one"
            " (kekctl history)"
        )
        self.index_name = index_name


class HistoryUnavailableError(KekdError):
    """The write was refused, and nothing changed."""

    reason = Reason.HISTORY_UNAVAILABLE

    def __init__(self, index_name: str, why: str) -> None:
        super().__init__(
            f"history of index '{index_name}' not writable: {why}; the daemon refused the write:"
            " repair the history, or set history_on_failure to 'allow'"
        )
        self.index_name = index_name


class HistoryOffError(KekdError):
    """An import was refused, and nothing changed."""

    reason = Reason.HISTORY_OFF

    def __init__(self, index_name: str) -> None:
        super().__init__(
            f"versions of index '{index_name}' not imported: the store keeps no history; set"
            " history_versions and history_days to more than 0"
        )
        self.index_name = index_name


class HistoryConflictError(KekdError):
    """An import was refused, and nothing changed."""

    reason = Reason.HISTORY_CONFLICT

    def __init__(self, index_name: str, why: str) -> None:
        super().__init__(f"versions of index '{index_name}' not imported: {why}")
        self.index_name = index_name


class EnvelopeHeldError(KekdError):
    reason = Reason.ENVELOPE_HELD

    def __init__(self, index_name: str, why: str) -> None:
        super().__init__(
            f"index '{index_name}' is held: {why}; release it before you change it (kekctl release)"
        )
        self.index_name = index_name


class InvalidIndexNameError(KekdError):
    reason = Reason.INDEX_NAME_INVALID


class InvalidEnvelopeError(KekdError):
    reason = Reason.ENVELOPE_INVALID

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"invalid envelope: {'; '.join(problems)}")


class InvalidRequestError(KekdError):
    reason = Reason.REQUEST_INVALID


class EtagMismatchError(KekdError):
    reason = Reason.ETAG_MISMATCH

    def __init__(self, index_name: str) -> None:
        super().__init__(
            f"etag mismatch for index '{index_name}': the stored envelope is not the one that"
            " if_etag names; get it again and decide again"
        )
        self.index_name = index_name


class OutcomeUnknownError(KekdError):
    reason = Reason.OUTCOME_UNKNOWN

    def __init__(self, index_name: str) -> None:
        super().__init__(
            f"the write of index '{index_name}' has an unknown outcome: an earlier attempt may have"
            " been applied and replaced since; get the envelope and decide again"
        )
        self.index_name = index_name


class ShuttingDownError(KekdError):
    reason = Reason.SHUTTING_DOWN

    def __init__(self) -> None:
        super().__init__("the daemon is shutting down: retry, with this daemon or another one")


class StoreNotConfiguredError(KekdError):
    reason = Reason.STORE_NOT_CONFIGURED


class AccessDeniedError(KekdError):
    reason = Reason.ACCESS_DENIED

    def __init__(self, identity: str, method: str, index_name: str) -> None:
        """An empty index name means any index."""
        what = f"index '{index_name}'" if index_name else "any index"
        super().__init__(
            f"permission denied: {identity} cannot {method} {what}: no policy rule allows it; run"
            " 'kekctl policy check' to see why"
        )
        self.index_name = index_name


class UnauthenticatedError(KekdError):
    reason = Reason.UNAUTHENTICATED


class CorruptEnvelopeError(KekdError):
    reason = Reason.ENVELOPE_CORRUPT

    def __init__(self, index_name: str, damage: str) -> None:
        super().__init__(
            f"the stored envelope of index '{index_name}' is corrupt: {damage}; restore it from a"
            " backup (kekctl import --index), and keep the corrupt record until then"
        )
        self.index_name = index_name


class StoreMisconfiguredError(KekdError):
    """A retry doesn't help until the operator has changed something."""

    reason = Reason.STORE_MISCONFIGURED


class NoKeystoreError(StoreMisconfiguredError):
    """The location exists, and has no keystore."""

    def __init__(self, where: str, hint: str) -> None:
        super().__init__(
            f"no keystore in {where}: {hint}; to create one, run 'kekd init' or start kekd with"
            " --create-stores"
        )


class StoreUnavailableError(KekdError):
    """A retry may help. A write may have been applied or not."""

    reason = Reason.STORE_UNAVAILABLE


class StoreTimeoutError(KekdError):
    """The daemon already waited for the store. A write may have been applied or not."""

    reason = Reason.STORE_TIMEOUT


class CallAbandonedError(StoreTimeoutError):
    """The caller was gone before the entry of its batch was started."""

    def __init__(self) -> None:
        super().__init__("the entry was not written: its caller disconnected; send it again")


class WatchFellBehindError(KekdError):
    reason = Reason.WATCH_FELL_BEHIND

    def __init__(self, why: str = "it read more slowly than changes arrived") -> None:
        super().__init__(f"the watch ended: {why}; restart it and discard cached data")


class ResponseFullError(KekdError):
    """The error of one entry of a batch."""

    reason = Reason.RESPONSE_FULL

    def __init__(self) -> None:
        super().__init__("response full: no room for this entry; request it again with fewer names")


class TooManyCallsError(KekdError):
    reason = Reason.TOO_MANY_CALLS

    def __init__(self, most: int, what: str = "calls") -> None:
        super().__init__(
            f"too many {what}: the daemon serves {most} at once; retry later, or raise max_calls"
        )


class ShareTakenError(KekdError):
    reason = Reason.TOO_MANY_CALLS

    def __init__(self, most: int, what: str) -> None:
        super().__init__(
            f"too many {what}: this identity already uses its share of the daemon's {most}; retry"
            " later, or raise max_calls"
        )


class RateLimitedError(KekdError):
    reason = Reason.RATE_LIMITED

    def __init__(self, retry_seconds: float) -> None:
        super().__init__(
            f"too many calls: this identity exceeds max_rate; retry in {retry_seconds:.3f} s"
        )
        self.retry_seconds = retry_seconds


class AuditUnavailableError(KekdError):
    reason = Reason.AUDIT_UNAVAILABLE

    def __init__(self) -> None:
        super().__init__(
            "audit log not writable: the daemon refused the call; retry when its operator has"
            " repaired the log"
        )


def reason_of(error: BaseException) -> str:
    """Returns the reason for the audit log: a `Reason`, or `CALLER_GONE`."""
    match error:
        case CallAbandonedError() | asyncio.CancelledError() | GeneratorExit():
            return CALLER_GONE
        case KekdError():
            return error.reason
        case _:
            return Reason.INTERNAL


def status_of(error: BaseException) -> str:
    """Returns the name of the gRPC status. An exceeded deadline counts as a cancellation, and so
    does the end of a stream whose reader is gone.
    """
    match error:
        case CallAbandonedError():
            return "CANCELLED"
        case KekdError():
            return STATUS[error.reason]
        case asyncio.CancelledError() | GeneratorExit():
            return "CANCELLED"
        case _:
            return STATUS[Reason.INTERNAL]
