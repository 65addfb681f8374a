"""What can go wrong in the daemon, in its own words; `rpc.errors` has the wire's.

KekdError
├── EnvelopeExistsError
├── EnvelopeNotFoundError
├── InvalidIndexNameError
├── InvalidEnvelopeError
├── InvalidRequestError
├── EtagMismatchError
├── StoreNotConfiguredError
├── CorruptEnvelopeError
├── StoreUnusableError
└── StoreUnavailableError
"""

from typing import ClassVar

from kekd_proto.reasons import Reason


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


class StoreNotConfiguredError(KekdError):
    reason = Reason.STORE_NOT_CONFIGURED


class CorruptEnvelopeError(KekdError):
    reason = Reason.ENVELOPE_CORRUPT

    def __init__(self, index_name: str, damage: str) -> None:
        super().__init__(
            f"The stored envelope of index '{index_name}' is corrupt ({damage}): restore it from a"
            " backup with a push, or delete it."
        )
        self.index_name = index_name


class StoreUnusableError(KekdError):
    """Trying again doesn't help before an operator did something."""

    reason = Reason.STORE_UNUSABLE


class StoreUnavailableError(KekdError):
    """Trying again may help. A write that ended so may have been done or not."""

    reason = Reason.STORE_UNAVAILABLE
