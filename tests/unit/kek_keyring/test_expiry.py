"""Expiry, refresh and eviction of cached KEKs."""

import threading
from itertools import pairwise

import pytest

from kekd.errors import UnavailableError
from kekd.kek import Keyring
from tests.patience import eventually
from tests.unit.kek_keyring.fakes import (
    TTL,
    Backend,
    Clock,
    OpenKeyring,
    is_idle,
    is_scrubbed,
    kek_of,
)


def test_kek_within_its_ttl_is_loaded_once(
    backend: Backend, clock: Clock, keyring: Keyring
) -> None:
    for _ in range(100):
        assert keyring.kek("i") == kek_of("i")
        clock.now += TTL * 0.749 / 100
    assert backend.loads == ["i"]


def test_kek_after_its_ttl_is_loaded_again(
    backend: Backend, clock: Clock, keyring: Keyring
) -> None:
    keyring.kek("i")
    clock.now += TTL
    assert keyring.kek("i") == kek_of("i")
    assert len(backend.loads) == 2


def test_requested_kek_is_refreshed_in_the_background(
    backend: Backend, clock: Clock, keyring: Keyring
) -> None:
    keyring.kek("i")
    backend.hold()
    clock.now += TTL * 0.96
    for _ in range(100):
        assert keyring.kek("i") == kek_of("i")
    eventually(lambda: len(backend.loads) == 2)
    backend.release()
    eventually(lambda: is_idle(keyring))
    clock.now += TTL * 0.74
    assert keyring.kek("i") == kek_of("i")
    assert len(backend.loads) == 2, "it counts from the renewal"


def test_instant_refresh_causes_no_other_load(
    backend: Backend, clock: Clock, keyring: Keyring
) -> None:
    keyring.kek("i")
    clock.now += TTL * 0.96
    for _ in range(100):
        assert keyring.kek("i") == kek_of("i")
    eventually(lambda: is_idle(keyring))
    assert len(backend.loads) == 2


def test_slow_refresh_is_started_once(backend: Backend, clock: Clock, keyring: Keyring) -> None:
    keyring.kek("i")
    backend.hold()
    for _ in range(4):
        clock.now += TTL * 0.24  # above 0.75 in the fourth round
        keyring.kek("i")
    for _ in range(3):
        clock.now += 1.2
        keyring.kek("i")
    eventually(lambda: len(backend.loads) == 2)
    backend.release()
    eventually(lambda: is_idle(keyring))
    assert len(backend.loads) == 2


def test_caller_after_the_ttl_waits_for_the_running_refresh(
    backend: Backend, clock: Clock, keyring: Keyring
) -> None:
    keyring.kek("i")
    backend.hold()
    clock.now += TTL * 0.96
    keyring.kek("i")
    clock.now += TTL
    late = threading.Thread(target=keyring.kek, args=("i",))
    late.start()
    late.join(0.05)
    assert late.is_alive()
    backend.release()
    late.join()
    assert len(backend.loads) == 2


def test_keks_loaded_together_are_refreshed_at_different_times(
    backend: Backend, clock: Clock, keyring: Keyring
) -> None:
    names = [f"i{number}" for number in range(500)]
    for name in names:
        keyring.kek(name)
    renewed = []
    for percent in range(70, 100, 5):
        clock.now = 1000 + TTL * percent / 100
        for name in names:
            keyring.kek(name)
        eventually(lambda: is_idle(keyring))
        renewed.append(len(backend.loads) - len(names))
    assert renewed[:2] == [0, 0]
    assert renewed[-1] == len(names)
    parts = [after - before for before, after in pairwise(renewed)]
    # 500 evenly distributed values: so few in one of four parts are beyond seven sigma.
    assert min(parts[1:]) > 50


def test_unused_kek_is_overwritten_after_its_ttl(
    backend: Backend, clock: Clock, open_keyring: OpenKeyring
) -> None:
    keyring = open_keyring(ttl=0.1)
    for name in ("i", "j"):
        keyring.kek(name)
    assert not any(map(is_scrubbed, backend.keks))
    clock.now += 0.1
    eventually(lambda: all(map(is_scrubbed, backend.keks)))
    assert not keyring._cache._entries
    assert backend.loads == ["i", "j"], "none was renewed"


def test_expired_kek_before_its_eviction_is_not_served(
    backend: Backend, clock: Clock, keyring: Keyring
) -> None:
    keyring.kek("i")
    backend.failure = UnavailableError("down")
    for _ in range(3):
        clock.now += TTL
        with pytest.raises(UnavailableError):
            keyring.kek("i")


def test_eviction_continues_after_the_cache_was_empty(
    backend: Backend, open_keyring: OpenKeyring
) -> None:
    keyring = open_keyring(ttl=0.1)
    for loads in (1, 2, 3):
        keyring.kek("i")
        assert len(backend.loads) == loads
        eventually(lambda: is_scrubbed(backend.keks[-1]))


def test_each_kek_is_overwritten_at_its_own_expiry(
    backend: Backend, clock: Clock, open_keyring: OpenKeyring
) -> None:
    keyring = open_keyring(ttl=0.2)
    keyring.kek("early")
    clock.now += 0.1
    keyring.kek("late")
    early, late = backend.keks
    clock.now += 0.1
    eventually(lambda: is_scrubbed(early))
    assert not is_scrubbed(late)
    clock.now += 0.1
    eventually(lambda: is_scrubbed(late))


def test_replaced_kek_is_overwritten(backend: Backend, clock: Clock, keyring: Keyring) -> None:
    keyring.kek("i")
    clock.now += TTL * 0.96
    keyring.kek("i")
    eventually(lambda: len(backend.keks) == 2 and is_idle(keyring))
    assert is_scrubbed(backend.keks[0])
    assert not is_scrubbed(backend.keks[1])


def test_eviction_waits_for_max_stale(backend: Backend, open_keyring: OpenKeyring) -> None:
    open_keyring(ttl=0.1, max_stale=TTL).kek("i")
    open_keyring(ttl=0.1, max_stale=0.1).kek("i")
    stale, evicted = backend.keks
    eventually(lambda: is_scrubbed(evicted))
    assert not is_scrubbed(stale)
