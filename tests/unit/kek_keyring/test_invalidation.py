"""Invalidation of cached KEKs during loads and reads."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kekd.errors import UnavailableError
from kekd.kek import Keyring
from kekd.kek.errors import AccessDeniedError
from tests.patience import eventually
from tests.unit.kek_keyring.fakes import (
    TTL,
    Backend,
    Clock,
    is_idle,
    is_scrubbed,
    kek_of,
)

READS, LOADS = 100, 10
INVALIDATIONS_AT_ONCE = 100


@pytest.fixture
def restless() -> Iterator[None]:
    """Makes threads switch a thousand times as often as by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 1000)
    yield
    sys.setswitchinterval(before)


def test_invalidated_kek_is_loaded_again(backend: Backend, keyring: Keyring) -> None:
    keyring.kek("i")
    keyring.kek("other")
    keyring.invalidate("i")
    assert is_scrubbed(backend.keks[0])
    assert not is_scrubbed(backend.keks[1])
    assert keyring.kek("i") == kek_of("i")
    keyring.kek("other")
    assert backend.loads == ["i", "other", "i"]


def test_invalidate_all_drops_every_kek(backend: Backend, keyring: Keyring) -> None:
    for name in "abc":
        keyring.kek(name)
    keyring.invalidate_all()
    assert all(map(is_scrubbed, backend.keks))
    for name in "abc":
        keyring.kek(name)
    assert backend.loads == list("abcabc")


def test_invalidating_an_unknown_index_does_nothing(keyring: Keyring) -> None:
    keyring.invalidate("i")
    keyring.invalidate_all()


@pytest.mark.parametrize("everything", [False, True])
def test_load_invalidated_while_running_is_returned_but_not_cached(
    backend: Backend, keyring: Keyring, everything: bool
) -> None:
    backend.hold()
    with ThreadPoolExecutor(1) as threads:
        waiter = threads.submit(keyring.kek, "i")
        eventually(lambda: len(backend.loads) == 1)
        if everything:
            keyring.invalidate_all()
        else:
            keyring.invalidate("i")
        backend.release()
        assert waiter.result() == kek_of("i")
    assert not keyring._cache._entries
    assert is_scrubbed(backend.keks[0])
    keyring.kek("i")
    assert len(backend.loads) == 2


def test_caller_after_an_invalidation_does_not_join_the_earlier_load(
    backend: Backend, keyring: Keyring
) -> None:
    backend.hold()
    with ThreadPoolExecutor(2) as threads:
        before = threads.submit(keyring.kek, "i")
        eventually(lambda: len(backend.loads) == 1)
        keyring.invalidate("i")
        held, backend._open = backend._open, threading.Event()
        backend.release()
        assert threads.submit(keyring.kek, "i").result() == kek_of("i")
        assert not before.done()
        held.set()
        assert before.result() == kek_of("i")
    fresh, old = backend.keks
    assert is_scrubbed(old), "the one that began before came later, and was not kept"
    assert not is_scrubbed(fresh)
    keyring.kek("i")
    assert len(backend.loads) == 2


def test_refresh_invalidated_while_running_is_not_cached(
    backend: Backend, clock: Clock, keyring: Keyring
) -> None:
    keyring.kek("i")
    backend.hold()
    clock.now += TTL * 0.96
    keyring.kek("i")
    eventually(lambda: len(backend.loads) == 2)
    keyring.invalidate("i")
    backend.release()
    eventually(lambda: len(backend.keks) == 2 and is_scrubbed(backend.keks[1]))
    assert not keyring._cache._entries


@pytest.mark.parametrize("failure", [AccessDeniedError("no"), UnavailableError("down")])
def test_failure_of_an_invalidated_load_changes_nothing(
    backend: Backend, keyring: Keyring, failure: AccessDeniedError | UnavailableError
) -> None:
    backend.hold()
    with ThreadPoolExecutor(1) as threads:
        before = threads.submit(keyring.kek, "i")
        eventually(lambda: len(backend.loads) == 1)
        keyring.invalidate("i")
        held, backend._open = backend._open, threading.Event()
        backend.release()
        keyring.kek("i")
        backend.failure = failure
        held.set()
        # The newer load overrides an outage, but not a refusal.
        if isinstance(failure, AccessDeniedError):
            with pytest.raises(AccessDeniedError):
                before.result()
        else:
            assert before.result() == kek_of("i")
    assert keyring.kek("i") == kek_of("i")
    assert len(backend.loads) == 2


def test_concurrent_reader_never_gets_a_partly_overwritten_kek(
    backend: Backend, keyring: Keyring, restless: None
) -> None:
    over, wrong, reads = threading.Event(), list[bytes](), [0] * 4

    def read(reader: int) -> None:
        while not over.is_set():
            kek = keyring.kek("i")
            if kek != kek_of("i"):
                wrong.append(kek)
            reads[reader] += 1

    def invalidate() -> bool:
        for _ in range(INVALIDATIONS_AT_ONCE):
            keyring.invalidate("i")
        return min(reads) > READS and sum(reads) > len(backend.loads) > LOADS

    threads = [threading.Thread(target=read, args=[reader]) for reader in range(len(reads))]
    for thread in threads:
        thread.start()
    eventually(invalidate)
    over.set()
    for thread in threads:
        thread.join()
    assert not wrong
    keyring.invalidate_all()
    eventually(lambda: is_idle(keyring))
    assert all(map(is_scrubbed, backend.keks))
