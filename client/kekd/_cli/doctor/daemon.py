"""What a daemon says is wrong with itself."""

from collections.abc import Iterator

import kekd
from kekd._cli.doctor.finding import Finding, failure


def check(status: kekd.DaemonStatus) -> Iterator[Finding]:
    if status.policy_error:
        yield failure(
            "policy",
            f"the changed policy is refused, and the former one is in use: {status.policy_error}",
            "correct the configuration file; kekd reads it again within a second",
        )
    if status.audit_error:
        yield failure(
            "audit",
            f"the audit can't be written: {status.audit_error}",
            "make room or correct the file's owner; until then the daemon refuses writes, reads or"
            " neither, as its on_failure says",
        )
