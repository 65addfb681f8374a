"""The cache, driven step by step."""

import dataclasses
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from kekd import KMSBlob
from kekd._cache.envelope_cache import Cache

OLD, NEW = KMSBlob(version=1), KMSBlob(version=2)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Read:
    """A read of one envelope, in steps."""

    def __init__(self, cache: Cache, name: str = "i") -> None:
        self._context: AbstractContextManager[Callable[[KMSBlob], KMSBlob]] = cache.reading(name)
        self._keep = self._context.__enter__()

    def answer(self, blob: KMSBlob) -> None:
        self._keep(blob)
        self._context.__exit__(None, None, None)

    def fail(self) -> None:
        error = OSError()
        assert not self._context.__exit__(OSError, error, None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache:
    """One that is watched, and nothing was read yet."""
    cache = Cache(10.0, max_entries=3, clock=clock)
    cache.begin()
    cache.hear()
    return cache


def fill(cache: Cache, name: str = "i", blob: KMSBlob = OLD) -> None:
    Read(cache, name).answer(blob)


def test_what_was_read_is_served(cache: Cache) -> None:
    assert cache.get("i") is None
    fill(cache)
    assert cache.get("i") == OLD


def test_each_answer_is_a_copy_with_everything(cache: Cache) -> None:
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


@pytest.mark.parametrize("drop", [lambda it: it.change("i"), Cache.begin, Cache.lose])
def test_what_is_dropped_is_not_served(cache: Cache, drop: Callable[[Cache], None]) -> None:
    fill(cache)
    drop(cache)
    cache.hear()
    assert cache.get("i") is None


def test_a_change_drops_its_own_envelope_only(cache: Cache) -> None:
    fill(cache, "i")
    fill(cache, "j")
    cache.change("i")
    cache.change("never read")
    assert cache.get("j") == OLD


def test_nothing_is_kept_before_the_beginning(clock: Clock) -> None:
    cache = Cache(clock=clock)
    across = Read(cache)
    fill(cache, "j")
    cache.hear()
    cache.begin()
    cache.hear()
    across.answer(OLD)
    assert cache.get("i") is None
    assert cache.get("j") is None


def test_nothing_is_kept_after_the_loss(cache: Cache) -> None:
    cache.lose()
    fill(cache)
    cache.hear()
    assert cache.get("i") is None


def test_nothing_is_served_beyond_the_staleness(cache: Cache, clock: Clock) -> None:
    fill(cache)
    clock.now += 9.9
    assert cache.get("i") == OLD
    clock.now += 0.1
    assert cache.get("i") is None
    cache.hear()
    assert cache.get("i") == OLD, "nothing was missed: what changed would have been told first"


def test_a_read_in_a_silence_is_kept_for_after_it(cache: Cache, clock: Clock) -> None:
    clock.now += 11
    fill(cache)
    assert cache.get("i") is None
    cache.hear()
    assert cache.get("i") == OLD


def test_the_oldest_goes_when_it_is_full(cache: Cache) -> None:
    for name in "abcad":
        fill(cache, name)
    assert [name for name in "abcd" if cache.get(name)] == ["a", "c", "d"]


def test_reads_leave_nothing_behind(cache: Cache) -> None:
    Read(cache, "failed").fail()
    fill(cache, "answered")
    changed = Read(cache, "changed")
    cache.change("changed")
    changed.answer(OLD)
    assert not cache._tokens


# Two reads of one envelope, of which the first met the old one, and what ends what they met.
STEPS = ("begin a", "begin b", "end a", "end b", "drop")
ORDERS = [
    order
    for order in itertools.permutations(STEPS)
    if order.index("begin a") < order.index("end a")
    and order.index("begin b") < order.index("end b")
]


@pytest.mark.parametrize("drop", ["change", "resync", "loss and beginning"])
@pytest.mark.parametrize("fails", [None, "a", "b"])
@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_whatever_the_order_only_what_was_read_after_a_change_is_kept(
    cache: Cache, order: tuple[str, ...], fails: str | None, drop: str
) -> None:
    """A read that began before the change is told may have met the old envelope, and its answer
    comes whenever it likes; one that began after it met the new one.
    """
    reads: dict[str, tuple[Read, KMSBlob]] = {}
    stored = OLD
    kept_after: list[str] = []
    for step in order:
        verb, _, who = step.partition(" ")
        if verb == "begin":
            reads[who] = Read(cache), stored
        elif verb == "drop":
            stored = NEW
            if drop == "change":
                cache.change("i")
            elif drop == "resync":
                cache.begin()
            else:
                cache.lose()
                cache.begin()
        else:
            read, met = reads[who]
            if who == fails:
                read.fail()
            else:
                read.answer(met)
                if met is NEW:
                    kept_after.append(who)
        if stored is NEW:
            assert cache.get("i") in (None, NEW), f"after {step}"
    assert not cache._tokens
    if kept_after and fails is None:
        assert cache.get("i") == NEW, "nor is anything dropped that may be kept"


@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_a_change_between_reads_costs_at_most_one_of_them(
    cache: Cache, order: tuple[str, ...]
) -> None:
    """Once all is over, the next read is kept again."""
    reads = {}
    for step in order:
        verb, _, who = step.partition(" ")
        if verb == "begin":
            reads[who] = Read(cache)
        elif verb == "end":
            reads[who].answer(NEW)
        else:
            cache.change("i")
    fill(cache, "i", NEW)
    assert cache.get("i") == NEW
