"""What can go wrong in the daemon, in its own words; `rpc.errors` has the wire's.

KekdError
├── EnvelopeExistsError
├── EnvelopeNotFoundError
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
├── AnswerFullError
├── TooManyCallsError
├── ShareTakenError
├── RateLimitedError
└── AuditUnavailableError
"""

import asyncio
from typing import ClassVar, Final

from kekd_common.reasons import STATUS, Reason

CALLER_GONE: Final = "CALLER_GONE"
"""The audit's reason where the caller is gone and so gets no `Reason`."""


class KekdError(Exception):
    """A failure that a caller is told about. Its text goes over the wire as it stands."""

    reason: ClassVar[Reason]
    index_name: str = ""
    store: str = ""


class EnvelopeExistsError(KekdError):
    reason = Reason.ENVELOPE_EXISTS

    def __init__(self, index_name: str) -> None:
        # To the letter what cyborgdb_core 0.18 says: existing callers match on it.
        super().__init__(f"KMS blob already exists for index '{index_name}'.")
        self.index_name = index_name


class EnvelopeNotFoundError(KekdError):
    reason = Reason.ENVELOPE_NOT_FOUND

    def __init__(self, index_name: str) -> None:
        # To the letter what cyborgdb_core 0.18 says: existing callers match on it.
        super().__init__(f"No KMS blob exists for index '{index_name}'.")
        self.index_name = index_name


class InvalidIndexNameError(KekdError):
    reason = Reason.INDEX_NAME_INVALID


class InvalidEnvelopeError(KekdError):
    reason = Reason.ENVELOPE_INVALID

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"The envelope is not valid: {'; '.join(problems)}.")


class InvalidRequestError(KekdError):
    reason = Reason.REQUEST_INVALID


class EtagMismatchError(KekdError):
    reason = Reason.ETAG_MISMATCH

    def __init__(self, index_name: str) -> None:
        super().__init__(
            f"The envelope of index '{index_name}' is not the one that if_etag names: get it again"
            " and decide again."
        )
        self.index_name = index_name


class OutcomeUnknownError(KekdError):
    reason = Reason.OUTCOME_UNKNOWN

    def __init__(self, index_name: str) -> None:
        super().__init__(
            f"the write of index '{index_name}' has an unknown outcome: an earlier attempt of it"
            " may have been applied, and replaced since; get the envelope and decide again."
        )
        self.index_name = index_name


class ShuttingDownError(KekdError):
    reason = Reason.SHUTTING_DOWN

    def __init__(self) -> None:
        super().__init__("the daemon is shutting down: try again, there or at another daemon.")


class StoreNotConfiguredError(KekdError):
    reason = Reason.STORE_NOT_CONFIGURED


class AccessDeniedError(KekdError):
    reason = Reason.ACCESS_DENIED

    def __init__(self, identity: str, method: str, index_name: str) -> None:
        """An empty index name stands for any."""
        what = f"index '{index_name}'" if index_name else "any index"
        super().__init__(
            f"{identity} may not {method} {what} here: no rule of the daemon's policy lets it."
            " 'kekctl policy check' tells its operator what one would have to say."
        )
        self.index_name = index_name


class UnauthenticatedError(KekdError):
    reason = Reason.UNAUTHENTICATED


class CorruptEnvelopeError(KekdError):
    reason = Reason.ENVELOPE_CORRUPT

    def __init__(self, index_name: str, damage: str) -> None:
        super().__init__(
            f"The stored envelope of index '{index_name}' is corrupt ({damage}): restore it from a"
            " backup (kekctl import --index), and keep the damaged record until then."
        )
        self.index_name = index_name


class StoreMisconfiguredError(KekdError):
    """Trying again doesn't help before an operator did something."""

    reason = Reason.STORE_MISCONFIGURED


class NoKeystoreError(StoreMisconfiguredError):
    """The place is there, and nothing of a keystore is in it."""

    def __init__(self, where: str, hint: str) -> None:
        super().__init__(
            f"no keystore in {where}: {hint}; to create one, run 'kekd init' or start kekd with"
            " --create-stores."
        )


class StoreUnavailableError(KekdError):
    """Trying again may help. A write that ended so may have been done or not."""

    reason = Reason.STORE_UNAVAILABLE


class StoreTimeoutError(KekdError):
    """It was waited for already. A write that ended so may have been done or not."""

    reason = Reason.STORE_TIMEOUT


class CallAbandonedError(StoreTimeoutError):
    """The caller was gone before it was begun."""

    def __init__(self) -> None:
        super().__init__("the entry was not begun: its caller went away; send it again.")


class WatchFellBehindError(KekdError):
    reason = Reason.WATCH_FELL_BEHIND

    def __init__(self, why: str = "changes came faster than they were read") -> None:
        super().__init__(f"the watch fell behind: {why}; restart it and discard cached data.")


class AnswerFullError(KekdError):
    """Of an entry of a batch."""

    reason = Reason.ANSWER_FULL

    def __init__(self) -> None:
        super().__init__("the answer is full: this entry didn't fit; ask again with fewer names.")


class TooManyCallsError(KekdError):
    reason = Reason.TOO_MANY_CALLS

    def __init__(self, most: int, what: str = "calls") -> None:
        super().__init__(
            f"too many {what}: the daemon serves {most} at once; retry later, or raise max_calls."
        )


class ShareTakenError(KekdError):
    reason = Reason.TOO_MANY_CALLS

    def __init__(self, most: int, what: str) -> None:
        super().__init__(
            f"this identity has too many {what}: it has as many {what} under way as one may of the"
            f" daemon's {most}; retry later, or raise max_calls."
        )


class RateLimitedError(KekdError):
    reason = Reason.RATE_LIMITED

    def __init__(self, retry_seconds: float) -> None:
        super().__init__(
            f"This caller makes more calls than it may (max_rate): try again in"
            f" {retry_seconds:.3f} s."
        )
        self.retry_seconds = retry_seconds


class AuditUnavailableError(KekdError):
    reason = Reason.AUDIT_UNAVAILABLE

    def __init__(self) -> None:
        super().__init__(
            "The daemon can't write its audit, so this isn't done: its log says why. Try again"
            " when its operator has seen to it."
        )


def reason_of(error: BaseException) -> str:
    """Why it failed, for the audit: a `Reason`, or that the caller had gone away."""
    match error:
        case CallAbandonedError() | asyncio.CancelledError() | GeneratorExit():
            return CALLER_GONE
        case KekdError():
            return error.reason
        case _:
            return Reason.INTERNAL


def status_of(error: BaseException) -> str:
    """The gRPC status, by its name, of what fails so. A deadline that passed is a cancellation too,
    and so is the end of a stream that nobody reads any more.
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
