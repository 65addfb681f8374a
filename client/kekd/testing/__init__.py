"""Helpers for tests of programs that use kekd: a real daemon in memory, and a fake KMS.

    with kekd.testing.run_daemon() as daemon, kekd.Client(daemon.address) as client:
        ...

The fixtures of `kekd.testing.plugin` do the same for pytest. The daemon is that of the extra
`server`; nothing needs AWS.
"""

from kekd.testing.daemon import DaemonStartError, RunningDaemon, run_daemon
from kekd.testing.fake_kms import FakeKms

__all__ = ["DaemonStartError", "FakeKms", "RunningDaemon", "run_daemon"]
