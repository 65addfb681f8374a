"""The exit codes of kekctl."""

from typing import Final

import kekd
from kekd._cli.errors import EnvelopeJSONError
from kekd.kek import errors

FAILED: Final = 1
DENIED: Final = 7
STOPPED: Final = 130
"""The exit code that shells report for a program ended by Ctrl-C: 128 and the number of SIGINT."""

MEANINGS: Final = {
    0: "success",
    1: "other failure",
    2: "invalid arguments",
    3: "not found",
    4: "already exists",
    5: "conflict with another write",
    6: "daemon or store unavailable, or timeout",
    7: "permission denied, or the daemon has no such store",
    8: "corrupt envelope, or KEK cannot be unwrapped",
    9: "store, audit or key needs operator action",
    STOPPED: "interrupted by Ctrl-C",
}
"""README.md has the same table. A missing store and a forbidden one have the same code, so that
callers can't enumerate stores.
"""

BY_ERROR: Final = (
    (kekd.EnvelopeNotFoundError, 3),
    (kekd.EnvelopeExistsError, 4),
    (kekd.EtagMismatchError, 5),
    (kekd.OutcomeUnknownError, 5),
    (kekd.HistoryConflictError, 5),
    (kekd.UnavailableError, 6),
    (kekd.DeadlineExceededError, 6),
    (kekd.PermissionDeniedError, 7),
    (kekd.UnauthenticatedError, 7),
    (kekd.CorruptEnvelopeError, 8),
    (kekd.StoreMisconfiguredError, 9),
    (kekd.AuditUnavailableError, 9),
    (kekd.HistoryUnavailableError, 9),
    (kekd.HistoryOffError, 9),
    (kekd.EnvelopeHeldError, 9),
    (kekd.InvalidArgumentError, 2),
    (errors.ProviderUnavailableError, 6),
    (errors.AccessDeniedError, 7),
    (errors.CredentialsError, 7),
    (errors.KeyNotAllowedError, 7),
    (errors.UnwrapError, 8),
    (errors.RegistryError, 2),
    (errors.SlotNotFoundError, 2),
    (errors.KekNotAcceptedError, 2),
    (errors.KekRequiredError, 2),
    (errors.SecretExistsError, 4),
    (errors.KeyNotFoundError, 9),
    (errors.KeyDisabledError, 9),
    (errors.KeyPendingDeletionError, 9),
    (errors.SecretNotFoundError, 9),
    (errors.InvalidSecretError, 9),
    (errors.RegionMismatchError, 9),
    (EnvelopeJSONError, 2),
    (UnicodeDecodeError, 2),
    (Exception, 1),
)
"""The first matching class decides."""


def exit_code(error: Exception) -> int:
    return next(code for kind, code in BY_ERROR if isinstance(error, kind))


def describe_exit_codes() -> str:
    """Returns the part of the help that lists the exit codes."""
    lines = (f"  {code:<5}{meaning}" for code, meaning in MEANINGS.items())
    return "\n".join(["\b", "Exit codes:", *lines])
