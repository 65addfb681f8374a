"""The cache of one location, driven step by step."""

import dataclasses
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from kekd import KMSBlob
from kekd._cache.envelope_cache import EnvelopeCache

OLD, NEW = KMSBlob(version=1), KMSBlob(version=2)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Read:
    """A read of one envelope, split into steps."""

    def __init__(self, cache: EnvelopeCache, name: str = "i") -> None:
        self._context: AbstractContextManager[Callable[[KMSBlob], KMSBlob]] = cache.read_through(
            name
        )
        self._fill = self._context.__enter__()

    def answer(self, blob: KMSBlob) -> None:
        self._fill(blob)
        self._context.__exit__(None, None, None)

    def fail(self) -> None:
        error = OSError()
        assert not self._context.__exit__(OSError, error, None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> EnvelopeCache:
    """An empty cache with a watch."""
    cache = EnvelopeCache(10.0, max_entries=3, clock=clock)
    cache.on_resync()
    cache.on_heartbeat()
    return cache


def fill(cache: EnvelopeCache, name: str = "i", blob: KMSBlob = OLD) -> None:
    Read(cache, name).answer(blob)


def test_envelope_after_a_read_is_served(cache: EnvelopeCache) -> None:
    assert cache.get("i") is None
    fill(cache)
    assert cache.get("i") == OLD


def test_hit_returns_a_copy_with_all_fields(cache: EnvelopeCache) -> None:
    fields = [field.name for field in dataclasses.fields(KMSBlob)]
    blob = KMSBlob()
    for name in fields:
        setattr(blob, name, f"value of {name}")
    fill(cache, "i", blob)
    blob.version = 2
    first, second = cache.get("i"), cache.get("i")
    assert first
    assert second
    assert [getattr(first, name) for name in fields] == [f"value of {name}" for name in fields]
    first.version = 3
    assert getattr(second, "version") == "value of version"  # noqa: B009  (it isn't an int)
    assert first is not second


@pytest.mark.parametrize(
    "drop",
    [lambda cache: cache.invalidate("i"), EnvelopeCache.on_resync, EnvelopeCache.on_disconnect],
)
def test_dropped_envelope_is_not_served(
    cache: EnvelopeCache, drop: Callable[[EnvelopeCache], None]
) -> None:
    fill(cache)
    drop(cache)
    cache.on_heartbeat()
    assert cache.get("i") is None


def test_change_drops_only_its_own_envelope(cache: EnvelopeCache) -> None:
    fill(cache, "i")
    fill(cache, "j")
    cache.invalidate("i")
    cache.invalidate("never read")
    assert cache.get("j") == OLD


def test_read_before_the_first_resync_is_not_cached(clock: Clock) -> None:
    cache = EnvelopeCache(clock=clock)
    across = Read(cache)
    fill(cache, "j")
    cache.on_heartbeat()
    cache.on_resync()
    cache.on_heartbeat()
    across.answer(OLD)
    assert cache.get("i") is None
    assert cache.get("j") is None


def test_read_after_a_disconnect_is_not_cached(cache: EnvelopeCache) -> None:
    cache.on_disconnect()
    fill(cache)
    cache.on_heartbeat()
    assert cache.get("i") is None


def test_entry_older_than_max_staleness_is_not_served(cache: EnvelopeCache, clock: Clock) -> None:
    fill(cache)
    clock.now += 9.9
    assert cache.get("i") == OLD
    clock.now += 0.1
    assert cache.get("i") is None
    cache.on_heartbeat()
    assert cache.get("i") == OLD, "the watch would have reported a change before the heartbeat"


def test_read_during_a_silence_is_served_after_it(cache: EnvelopeCache, clock: Clock) -> None:
    clock.now += 11
    fill(cache)
    assert cache.get("i") is None
    cache.on_heartbeat()
    assert cache.get("i") == OLD


def test_full_cache_evicts_the_oldest_entry(cache: EnvelopeCache) -> None:
    for name in "abcad":
        fill(cache, name)
    assert [name for name in "abcd" if cache.get(name)] == ["a", "c", "d"]


def test_finished_reads_leave_no_tokens(cache: EnvelopeCache) -> None:
    Read(cache, "failed").fail()
    fill(cache, "answered")
    changed = Read(cache, "changed")
    cache.invalidate("changed")
    changed.answer(OLD)
    assert not cache._tokens


# Two reads of one envelope, and the change that replaces it.
STEPS = ("begin a", "begin b", "end a", "end b", "drop")
ORDERS = [
    order
    for order in itertools.permutations(STEPS)
    if order.index("begin a") < order.index("end a")
    and order.index("begin b") < order.index("end b")
]


@pytest.mark.parametrize("drop", ["change", "resync", "disconnect and resync"])
@pytest.mark.parametrize("fails", [None, "a", "b"])
@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_any_order_of_reads_and_a_change_never_caches_the_old_envelope(
    cache: EnvelopeCache, order: tuple[str, ...], fails: str | None, drop: str
) -> None:
    """A read that began before the change may return the old envelope, at any later time. A read
    that began after it returns the new one.
    """
    reads: dict[str, tuple[Read, KMSBlob]] = {}
    stored = OLD
    filled_after: list[str] = []
    for step in order:
        verb, _, who = step.partition(" ")
        if verb == "begin":
            reads[who] = Read(cache), stored
        elif verb == "drop":
            stored = NEW
            if drop == "change":
                cache.invalidate("i")
            elif drop == "resync":
                cache.on_resync()
            else:
                cache.on_disconnect()
                cache.on_resync()
        else:
            read, met = reads[who]
            if who == fails:
                read.fail()
            else:
                read.answer(met)
                if met is NEW:
                    filled_after.append(who)
        if stored is NEW:
            assert cache.get("i") in (None, NEW), f"after {step}"
    assert not cache._tokens
    if filled_after and fails is None:
        assert cache.get("i") == NEW, "a read after the change must stay cached"


@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_read_after_a_change_between_reads_is_cached(
    cache: EnvelopeCache, order: tuple[str, ...]
) -> None:
    reads = {}
    for step in order:
        verb, _, who = step.partition(" ")
        if verb == "begin":
            reads[who] = Read(cache)
        elif verb == "end":
            reads[who].answer(NEW)
        else:
            cache.invalidate("i")
    fill(cache, "i", NEW)
    assert cache.get("i") == NEW
