"""The policy in the configuration file. Of its other settings nothing is read again."""

from collections.abc import Sequence
from pathlib import Path

from kekd_common.policy import PolicyError, Rule, read
from kekd_server.access.authorizer import Authorizer
from kekd_server.model.file_trust import refusal
from kekd_server.model.reloading_file import ReloadingFile

Policy = Sequence[Rule] | None


class PolicyFile(ReloadingFile[Policy]):
    """Gives a guard the policy of a file whenever that changes."""

    error_type = PolicyError

    def __init__(self, file: Path, policy: Policy, guard: Authorizer) -> None:
        """`policy` is what the guard has. The file may have another by now: it was read before, and
        where a worker is replaced, long before. Raises `PolicyError`.
        """
        super().__init__([file])
        self.current = policy
        self._file = file
        self._guard = guard
        self._apply(self._read(), verbose=False)

    def _read(self) -> Policy:
        if problem := refusal(self._file):
            raise PolicyError([problem])
        policy = read(self._file)
        if policy is None and self.current is not None:
            raise PolicyError(
                [f"{self._file}: its policy is gone: to do without one, start the daemon anew"]
            )
        return policy

    def _apply(self, value: Policy, *, verbose: bool) -> None:
        self._guard.replace(value)
        super()._apply(value, verbose=verbose)

    def _describe(self) -> str:
        return "no policy" if self.current is None else f"a policy of {len(self.current)} rules"
