"""The policy in the configuration file, read anew while the daemon runs.

It is taken whole or not at all: while there is anything wrong with it, what was read before stays,
and the log says so. Of the other settings nothing is read again.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from kekd_policy import PolicyError, Rule, read
from kekd_server.guard import Guard
from kekd_server.stamp import stamp

_log = logging.getLogger(__name__)


class PolicyFile:
    """Gives a guard the policy of a file whenever that changes."""

    def __init__(self, file: Path, policy: Sequence[Rule] | None, guard: Guard) -> None:
        """`policy` is what the guard has. The file may have another by now: it was read before, and
        where a worker is replaced, long before. Raises `PolicyError`.
        """
        self._file = file
        self._policy = policy
        self._guard = guard
        self._seen = stamp(file)
        self._trouble = ""
        self.refusals = 0
        """How many new ones couldn't be used."""
        self._take(self._read(), aloud=False)

    def look(self, *, asked: bool = False) -> None:
        """Reads the file if it changed, or is bad and may have become good, or if `asked`."""
        seen = stamp(self._file)
        changed = seen != self._seen
        if changed or self._trouble or asked:
            self._seen = seen
            try:
                self._take(self._read(), aloud=asked)
            except PolicyError as error:
                self._refuse(error, aloud=changed or asked)

    def _read(self) -> Sequence[Rule] | None:
        policy = read(self._file)
        if policy is None and self._policy is not None:
            raise PolicyError(
                [f"{self._file}: its policy is gone: to do without one, start the daemon anew"]
            )
        return policy

    def _take(self, policy: Sequence[Rule] | None, *, aloud: bool) -> None:
        self._trouble = ""
        if policy != self._policy:
            self._policy = policy
            self._guard.replace(policy)
            _log.info("%s: a new policy decides, of %d rules", self._file, len(policy or ()))
        elif aloud:
            _log.info("%s: nothing new in the policy", self._file)

    def _refuse(self, error: PolicyError, *, aloud: bool) -> None:
        if aloud or str(error) != self._trouble:
            self.refusals += 1
            _log.error("%s; the policy from before still decides", "; ".join(error.problems))
        self._trouble = str(error)
