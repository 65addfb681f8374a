"""Keyrings in a process that can't start threads."""

import threading

import pytest

from kekd.kek import AsyncKeyring, Keyring
from tests.patience import eventually
from tests.unit.kek_keyring.fakes import (
    TTL,
    Backend,
    Clock,
    is_idle,
    is_scrubbed,
    kek_of,
)


def refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_refresh_without_a_free_thread_is_retried(
    backend: Backend, clock: Clock, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring.kek("i")
    clock.now += TTL * 0.96
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert keyring.kek("i") == kek_of("i")
    clock.now += 1.5
    assert keyring.kek("i") == kek_of("i")
    eventually(lambda: len(backend.loads) == 2 and is_idle(keyring))


def test_kek_without_an_eviction_thread_is_not_cached(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = Keyring(backend.registry, backend.client)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert keyring.kek("i") == kek_of("i")
    assert all(map(is_scrubbed, backend.keks))
    assert keyring.kek("i") == kek_of("i")
    assert len(backend.loads) == 2


async def test_load_without_a_free_thread_raises_and_the_next_succeeds(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = AsyncKeyring(backend.registry, backend.client)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            await keyring.kek("i")
    assert await keyring.kek("i") == kek_of("i")
