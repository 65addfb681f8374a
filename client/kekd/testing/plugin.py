"""Fixtures for pytest: `pytest_plugins = ["kekd.testing.plugin"]` in the conftest.py of the root.

They aren't loaded by themselves, because that would take time in each run of pytest in which kekd
is installed.
"""

from collections.abc import Iterator

import pytest

from kekd._client import Client
from kekd.testing import FakeKms, RunningDaemon, run_daemon


@pytest.fixture
def kekd_daemon() -> Iterator[RunningDaemon]:
    """A daemon of the test's own, whose memory store is empty."""
    with run_daemon() as daemon:
        yield daemon


@pytest.fixture
def kekd_client(kekd_daemon: RunningDaemon) -> Iterator[Client]:
    """A client of `kekd_daemon`."""
    with Client(kekd_daemon.address) as client:
        yield client


@pytest.fixture
def kekd_kms() -> FakeKms:
    return FakeKms()
