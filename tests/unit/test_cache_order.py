"""Readers that share a cache never get an older envelope than one that they got before."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

import kekd
from kekd import EnvelopeNotFoundError, KMSBlob, StorageConfig
from kekd._cache.envelope_cache import EnvelopeCache
from kekd._cache.manager import CacheManager

MEMORY = StorageConfig.memory()


class Watcher:
    """A watch that has started and reports no changes."""

    def __init__(
        self,
        _location: StorageConfig | None,
        cache: EnvelopeCache,
        _on_change: Callable[[str], None],
    ) -> None:
        cache.on_resync()
        cache.on_heartbeat()

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


def envelope(version: int, store: str = "memory") -> KMSBlob:
    blob = KMSBlob(version=version)
    blob.etag, blob.store = f"etag {version}", store
    return blob


OLD, NEW = envelope(1), envelope(2)
GONE = EnvelopeNotFoundError("", index_name="i", store="memory")


class Get:
    """A get of one envelope, split into steps."""

    met: KMSBlob | EnvelopeNotFoundError

    def __init__(
        self, caches: CacheManager[Watcher], location: StorageConfig | None = None
    ) -> None:
        self._context: AbstractContextManager[Callable[[KMSBlob], KMSBlob]] = caches.read_through(
            location, "i"
        )
        self._fill = self._context.__enter__()

    def answer(self) -> KMSBlob | EnvelopeNotFoundError:
        if isinstance(self.met, KMSBlob):
            self._fill(self.met)
            self._context.__exit__(None, None, None)
        else:
            assert not self._context.__exit__(type(self.met), self.met, None)
        return self.met


@pytest.fixture
def caches() -> CacheManager[Watcher]:
    return CacheManager(10.0, Watcher)


def orders(*sequences: list[str]) -> Iterator[tuple[str, ...]]:
    """Yields every order of the steps that keeps the order within each sequence."""
    for order in itertools.permutations(itertools.chain(*sequences)):
        if all([step for step in order if step in steps] == steps for steps in sequences):
            yield order


GETS = [["begin a", "meet a", "answer a"], ["begin b", "meet b", "answer b"]]
BATCH = ["meet batch", "answer batch"]


@pytest.mark.parametrize("written", [NEW, GONE], ids=["push", "delete"])
def test_any_order_of_responses_never_caches_an_older_envelope(
    written: KMSBlob | EnvelopeNotFoundError,
) -> None:
    tried = 0
    for order in orders(*GETS, ["write"]):
        caches = CacheManager(10.0, Watcher)
        gets: dict[str, Get] = {}
        stored: KMSBlob | EnvelopeNotFoundError = OLD
        seen: list[object] = []
        for step in order:
            match step.split():
                case ["write"]:
                    stored = written
                case ["begin", name]:
                    gets[name] = Get(caches)
                case ["meet", name]:
                    gets[name].met = stored
                case ["answer", name]:
                    seen.append(gets[name].answer())
            assert written not in seen or caches.get(None, "i") in (None, written), order
        tried += 1
    assert tried == 140


def test_get_after_a_batch_is_at_least_as_fresh_as_the_batch() -> None:
    for order in orders(GETS[0], BATCH, ["write"]):
        caches = CacheManager(10.0, Watcher)
        stored, batch = OLD, OLD
        seen: list[object] = []
        for step in order:
            match step:
                case "write":
                    stored = NEW
                case "begin a":
                    get = Get(caches)
                case "meet a":
                    get.met = stored
                case "answer a":
                    seen.append(get.answer())
                case "meet batch":
                    batch = stored
                case "answer batch":
                    caches.observe(("i", batch))
                    seen.append(batch)
            assert NEW not in seen or caches.get(None, "i") in (None, NEW), order


def fill(
    caches: CacheManager[Watcher], blob: KMSBlob, location: StorageConfig | None = None
) -> None:
    get = Get(caches, location)
    get.met = blob
    get.answer()


def test_response_by_another_name_of_the_store_evicts(caches: CacheManager[Watcher]) -> None:
    fill(caches, OLD)
    fill(caches, NEW, MEMORY)
    assert caches.get(None, "i") is None
    assert caches.get(MEMORY, "i") == NEW


def test_response_of_another_store_evicts_nothing(caches: CacheManager[Watcher]) -> None:
    fill(caches, OLD)
    fill(caches, envelope(2, "disk:/x"), StorageConfig.disk("/x"))
    assert caches.get(None, "i") == OLD


def test_unrelated_failure_evicts_nothing(caches: CacheManager[Watcher]) -> None:
    fill(caches, OLD)
    caches.observe(("i", kekd.UnavailableError("", store="memory")))
    assert caches.get(None, "i") == OLD


def test_equal_response_evicts_nothing(caches: CacheManager[Watcher]) -> None:
    fill(caches, OLD)
    assert caches.observe(("i", OLD)) == ("i", OLD)
    assert caches.get(None, "i") == OLD


def test_get_after_an_event_is_at_least_as_fresh_as_the_event(
    caches: CacheManager[Watcher],
) -> None:
    fill(caches, OLD)
    caches.observe_event(kekd.Change("other", "pushed", "etag 2"))
    assert caches.get(None, "i") == OLD
    caches.observe_event(kekd.Change("i", "pushed", "etag 2"))
    assert caches.get(None, "i") is None
    fill(caches, OLD)
    caches.observe_event(kekd.Resync())
    assert caches.get(None, "i") is None


@pytest.mark.parametrize("event", [kekd.Resync(), kekd.Change("i", "pushed", "etag 2")])
def test_get_that_began_before_an_event_is_not_cached(
    caches: CacheManager[Watcher], event: kekd.Change | kekd.Resync
) -> None:
    get = Get(caches)
    get.met = OLD
    caches.observe_event(event)
    get.answer()
    assert caches.get(None, "i") is None
