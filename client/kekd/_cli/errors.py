"""The errors of files that kekctl reads, and errors that end a command."""

from kekd.errors import DeadlineExceededError, EnvelopeError, UnavailableError


class EnvelopeJSONError(ValueError):
    """The text isn't an envelope. The message says where, and quotes none of the text."""


class BackupError(EnvelopeJSONError):
    """The file isn't a complete backup. Lists every problem by line; quotes no envelope."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def is_lost(error: EnvelopeError) -> bool:
    """Whether the daemon is unreachable: an error about one envelope has a reason."""
    return isinstance(error, (UnavailableError, DeadlineExceededError)) and not error.reason
