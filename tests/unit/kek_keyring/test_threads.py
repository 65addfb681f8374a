"""When the process may start no more threads."""

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


def test_a_renewal_without_a_thread_is_tried_again_later(
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


def test_a_kek_that_nobody_would_overwrite_is_not_kept(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = Keyring(backend.registry, backend.client)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert keyring.kek("i") == kek_of("i")
    assert all(map(is_scrubbed, backend.keks))
    assert keyring.kek("i") == kek_of("i")
    assert len(backend.loads) == 2


async def test_a_load_without_a_thread_fails_and_the_next_does_not_wait_for_it(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = AsyncKeyring(backend.registry, backend.client)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            await keyring.kek("i")
    assert await keyring.kek("i") == kek_of("i")
