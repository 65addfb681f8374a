"""The limit on file descriptors, and how many of them connections may use."""

import resource
from collections.abc import Iterator

import pytest

from kekd_server.listeners.descriptor_limit import (
    MAX_CONNECTIONS,
    connections_per_listener,
    raise_descriptor_limit,
)


@pytest.fixture(autouse=True)
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_raise_limit_goes_to_the_hard_limit(limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    raise_descriptor_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize(
    ("limit", "listeners", "connections"),
    [
        (resource.RLIM_INFINITY, 1, MAX_CONNECTIONS),
        (1_048_576, 2, MAX_CONNECTIONS),
        (4096, 2, 1920),
        (1024, 1, 768),
        (100, 1, 50),
        (1, 2, 1),
    ],
)
def test_connections_leave_descriptors_for_everything_else(
    monkeypatch: pytest.MonkeyPatch, limit: int, listeners: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert connections_per_listener(listeners) == connections
    monkeypatch.undo()
