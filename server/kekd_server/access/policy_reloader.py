"""Reloads the policy of the configuration file. Other settings aren't reloaded."""

from collections.abc import Sequence
from pathlib import Path

from kekd_common.policy import PolicyError, Rule, read
from kekd_server.access.access_policy import AccessPolicy
from kekd_server.model.file_trust import refusal
from kekd_server.model.reloading_file import ReloadingFile

Policy = Sequence[Rule] | None


class PolicyReloader(ReloadingFile[Policy]):
    """Replaces the policy in use whenever its file changes."""

    error_type = PolicyError

    def __init__(self, file: Path, current: Policy, policy: AccessPolicy) -> None:
        """`current` are the rules that `policy` has. The file may have others by now: its settings
        were read earlier, and long ago if this worker replaces another. Raises `PolicyError`.
        """
        super().__init__([file])
        self.current = current
        self._file = file
        self._policy = policy
        self._apply(self._read(), verbose=False)

    def _read(self) -> Policy:
        if problem := refusal(self._file):
            raise PolicyError([problem])
        rules = read(self._file)
        if rules is None and self.current is not None:
            raise PolicyError(
                [f"{self._file}: the policy is missing; to run without one, restart the daemon"]
            )
        return rules

    def _apply(self, value: Policy, *, verbose: bool) -> None:
        self._policy.replace(value)
        super()._apply(value, verbose=verbose)

    def _describe(self) -> str:
        return "no policy" if self.current is None else f"a policy of {len(self.current)} rules"
