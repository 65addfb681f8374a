"""Reports the errors in a daemon's status."""

from collections.abc import Iterator

import kekd
from kekd._cli.doctor.finding import Finding, failure


def check(status: kekd.DaemonStatus) -> Iterator[Finding]:
    if status.policy_error:
        yield failure(
            "policy",
            f"changed policy rejected, previous one in use: {status.policy_error}",
            "correct the configuration file; kekd reloads it within a second",
        )
    if status.audit_error:
        yield failure(
            "audit",
            f"audit log not writable: {status.audit_error}",
            "free space or correct the owner of the file; until then, on_failure decides whether"
            " calls fail",
        )
