from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, cast

import pytest

from kekd.kek import Keyring, key_cache
from kekd.kek import keyring as module
from tests.unit.kek_keyring.fakes import TTL, Backend, BlockingAsyncKeyring, Clock, OpenKeyring


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.release()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the keyring. Waiting threads use the real one."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(key_cache, "time", clock)
    return clock


@pytest.fixture(params=[Keyring, BlockingAsyncKeyring], ids=["Keyring", "AsyncKeyring"])
def open_keyring(request: pytest.FixtureRequest, backend: Backend) -> Iterator[OpenKeyring]:
    """Makes keyrings. Each test runs with both kinds."""
    with ExitStack() as stack:

        def open_keyring(**options: Any) -> Keyring:
            keyring = request.param(backend.registry, backend.client, **{"ttl": TTL, **options})
            if isinstance(keyring, BlockingAsyncKeyring):
                stack.callback(keyring.close)
            stack.callback(keyring.invalidate_all)
            return cast("Keyring", keyring)

        yield open_keyring


@pytest.fixture
def keyring(open_keyring: OpenKeyring) -> Keyring:
    return open_keyring()
