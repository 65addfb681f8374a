"""Fixtures for pytest: `pytest_plugins = ["kekd.testing.plugin"]` in the conftest.py of the root.

They aren't loaded by themselves, because that would take time in each run of pytest in which kekd
is installed.
"""

from collections.abc import Iterator

import pytest

from kekd._client import Client
from kekd.testing import FakeKms, TestDaemon, run_daemon


@pytest.fixture(scope="session")
def kekd_daemon() -> Iterator[TestDaemon]:
    """A daemon with a memory store, for all tests of a process."""
    with run_daemon() as daemon:
        yield daemon


@pytest.fixture
def kekd_client(kekd_daemon: TestDaemon) -> Iterator[Client]:
    """A client of `kekd_daemon`, whose store is empty at the start of the test."""
    with Client(kekd_daemon.address) as client:
        for index_name in list(client.list_index_kms(show_deleted=True)):
            client.release_index_kms(None, index_name)
            client.destroy_index_kms(None, index_name, "another test begins")
        yield client


@pytest.fixture
def kekd_kms() -> FakeKms:
    return FakeKms()
