"""The client that the module functions share."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kekd import _api
from tests.patience import PATIENCE


class Client:
    both = threading.Barrier(2)
    closed = 0

    def __init__(self) -> None:
        self.both.wait(PATIENCE)

    def close(self) -> None:
        Client.closed += 1


def test_concurrent_first_calls_close_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_api, "_shared", None)
    monkeypatch.setattr(_api, "Client", Client)
    with ThreadPoolExecutor(2) as threads:
        clients = list(threads.map(lambda _: _api._client(), range(2)))
    assert not Client.closed
    assert _api._client() in clients
