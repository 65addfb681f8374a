"""Keeps unit tests hermetic: only those marked `external` open connections or start processes."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

from kekd_server.storage.writes import groups
from kekd_server.storage.writes.steps import RunningWrite, Submit, run_together

_EXTERNAL_FIXTURES: Final = {"aws_endpoint", "s3_endpoint"}
"""A test that uses one of these is `external`."""
_FORBIDDEN: Final = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.system",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.sendto",
    "subprocess.Popen",
}
"""Audit events (https://docs.python.org/3.11/library/audit_events.html)."""


class _Guard:
    """An audit hook, which Python can't remove again, that a test switches on and off."""

    def __init__(self) -> None:
        self.is_on = False
        self.violations: list[str] = []
        sys.addaudithook(self._check)

    def _check(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_on and event in _FORBIDDEN:
            self.violations.append(f"{event}{arguments}")
            raise RuntimeError(f"{event} in a unit test that is not external")


@pytest.fixture(scope="session")
def _guard() -> _Guard:
    return _Guard()


@pytest.fixture(autouse=True)
def hermetic(_guard: _Guard, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that opens a connection or starts a process, even if it handles the error."""
    _guard.violations.clear()
    _guard.is_on = request.node.get_closest_marker("external") is None
    yield
    _guard.is_on = False
    assert not _guard.violations, "mark this test as external"


@pytest.fixture
def group_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of writes of each group, of any store, in the order of their starts."""
    sizes: list[int] = []

    def record_size(writes: Sequence[RunningWrite[Any]], submit: Submit) -> None:
        sizes.append(len(writes))
        run_together(writes, submit)

    monkeypatch.setattr(groups, "run_together", record_size)
    return sizes


def pytest_itemcollected(item: pytest.Item) -> None:
    if _EXTERNAL_FIXTURES & set(getattr(item, "fixturenames", ())):
        item.add_marker("external")
