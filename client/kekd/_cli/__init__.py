"""The `kekctl` command."""

from kekd._cli import audit, backup, doctor, envelopes, keks, policy, status
from kekd._cli.group import EXIT_CODES, main

__all__ = [
    "EXIT_CODES",
    "audit",
    "backup",
    "doctor",
    "envelopes",
    "keks",
    "main",
    "policy",
    "status",
]
