"""The `kekctl` command."""

from kekd._cli import envelopes, keks, policy, protection, status
from kekd._cli.audit import command as audit
from kekd._cli.backup import command as backup
from kekd._cli.common import EXIT_CODES, main
from kekd._cli.doctor import command as doctor
from kekd._cli.history import command as history

__all__ = [
    "EXIT_CODES",
    "audit",
    "backup",
    "doctor",
    "envelopes",
    "history",
    "keks",
    "main",
    "policy",
    "protection",
    "status",
]
