"""The watcher of a bucket reads the change log each second, and lists the bucket now and then."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, nullcontext
from itertools import pairwise
from typing import TypeVar
from unittest.mock import Mock

import pytest

from kekd_server.model.errors import StoreUnavailableError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.listing import ListedObject
from kekd_server.storage.s3.watch import watcher
from kekd_server.storage.s3.watch.log_reader import S3LogReader
from kekd_server.storage.s3.watch.watcher import S3Watcher
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.watch.hub import Changes

T = TypeVar("T")
Pages = Iterator[Sequence[ListedObject]]

NAME = IndexName("one")
VERSION = ListedObject(NAME.key, "etag", "m")
CREATED = Change(ChangeKind.CREATED, NAME, "etag")
DELETED = Change(ChangeKind.DELETED, NAME)

LIST_INTERVAL = 300.0
MAX_POLLS = 2000
PROCESSOR_TIME = 0.5
"""Of each page, in seconds."""


class Keystore:
    """A fake driver and a fake log, with a clock that only pauses and `take` advance."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.reads: list[float] = []
        self.listings: list[float] = []
        self.pages: list[float] = []
        self.driver = Mock(S3Driver, translate_errors=nullcontext)
        self.driver.scan_objects = self._scan_objects
        self.driver.find_object.return_value = VERSION
        self.log = Mock(S3LogReader, is_on=True)
        self.log.read = self._read
        self.on_read: Callable[[], set[str] | None] = set
        self.on_listing: Callable[[], Pages] = lambda: iter([[]])
        self.watcher = S3Watcher(self.driver, self.log, "s3://b", LIST_INTERVAL)
        self._polls = self.watcher.poll(self._run)
        processor_time = itertools.count(0.0, PROCESSOR_TIME)
        clock = Mock(monotonic=lambda: self.now, thread_time=lambda: next(processor_time))
        monkeypatch.setattr(watcher, "time", clock)
        monkeypatch.setattr(watcher, "_sleep_until", self._sleep_until)

    def take(self, seconds: float) -> set[str]:
        self.now += seconds
        return set()

    async def poll(self) -> Changes:
        return await anext(self._polls)

    async def poll_until_found(self) -> Changes:
        for _ in range(MAX_POLLS):
            if (changes := await self.poll()) != []:
                return changes
        raise AssertionError("no poll found a change")

    async def poll_until(self, condition: Callable[[], bool]) -> None:
        """Expects no changes."""
        for _ in range(MAX_POLLS):
            if condition():
                return
            assert await self.poll() == []
        raise AssertionError("the condition never held")

    async def aclose(self) -> None:
        await self._polls.aclose()

    async def _run(self, call: Callable[[], T]) -> T:
        return call()

    async def _sleep_until(self, moment: float) -> None:
        self.now = max(self.now, moment)

    def _read(self) -> set[str] | None:
        self.reads.append(self.now)
        return self.on_read()

    def _scan_objects(self) -> Pages:
        self.listings.append(self.now)
        for page in self.on_listing():
            self.pages.append(self.now)
            yield page


@pytest.fixture
async def keystore(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Keystore]:
    """Its watcher has made the first listing."""
    keystore = Keystore(monkeypatch)
    async with aclosing(keystore):
        assert await keystore.poll() == []
        yield keystore


async def test_poll_of_s3_without_changes_yields_an_empty_list(keystore: Keystore) -> None:
    for _ in range(3):
        assert await keystore.poll() == []


async def test_listing_pauses_for_nineteen_times_its_processor_time(keystore: Keystore) -> None:
    """So it slows other calls little, however many envelopes there are."""
    keystore.pages.clear()
    keystore.on_listing = lambda: iter([[], [], []])
    await keystore.poll_until(lambda: len(keystore.pages) == 3)
    pauses = [after - before for before, after in pairwise(keystore.pages)]
    assert pauses == [19 * PROCESSOR_TIME] * 2


async def test_first_listing_pauses_too(monkeypatch: pytest.MonkeyPatch) -> None:
    keystore = Keystore(monkeypatch)
    keystore.on_listing = lambda: iter([[], []])
    async with aclosing(keystore):
        assert await keystore.poll() == []
    assert keystore.pages[1] - keystore.pages[0] == 19 * PROCESSOR_TIME


async def test_log_is_read_each_second_during_a_listing(keystore: Keystore) -> None:
    keystore.on_listing = lambda: itertools.repeat([])
    await keystore.poll_until(lambda: len(keystore.pages) == 10)
    inside = [read for read in keystore.reads if read > keystore.listings[-1]]
    assert {after - before for before, after in pairwise(inside)} == {1.0}
    assert len(inside) > len(keystore.pages)


async def test_change_is_reported_during_a_listing(keystore: Keystore) -> None:
    """The listing never ends."""
    keystore.on_listing = lambda: itertools.repeat([])
    await keystore.poll_until(lambda: len(keystore.pages) == 10)
    keystore.on_read = lambda: {NAME.key}
    changed = keystore.now
    assert await keystore.poll_until_found() == [CREATED]
    assert keystore.now <= changed + 1


async def test_page_is_reported_before_the_listing_ends(keystore: Keystore) -> None:
    keystore.on_listing = lambda: itertools.chain([[VERSION]], itertools.repeat([]))
    assert await keystore.poll_until_found() == [CREATED]


async def test_logged_create_is_not_reported_again_by_a_listing(keystore: Keystore) -> None:
    """The log shows the create between the two pages of the listing."""
    keystore.on_listing = lambda: iter([[], [VERSION]])
    await keystore.poll_until(lambda: len(keystore.listings) == 2)
    keystore.on_read = lambda: {NAME.key}
    assert await keystore.poll_until_found() == [CREATED]
    await keystore.poll_until(lambda: len(keystore.listings) == 4)


async def test_own_write_during_a_listing_is_not_reported_as_deleted(keystore: Keystore) -> None:
    """The next listing looks for it."""
    await keystore.poll_until(lambda: len(keystore.listings) == 2)
    keystore.watcher.note_write(NAME)
    await keystore.poll_until(lambda: len(keystore.listings) == 3)
    assert await keystore.poll_until_found() == [DELETED]


async def test_own_write_that_is_missing_in_the_next_listing_was_deleted(
    keystore: Keystore,
) -> None:
    keystore.watcher.note_write(NAME)
    assert await keystore.poll_until_found() == [DELETED]
    assert len(keystore.listings) == 2


async def test_gap_in_the_log_starts_a_listing(keystore: Keystore) -> None:
    keystore.on_read = lambda: None
    await keystore.poll_until(lambda: len(keystore.listings) == 2)
    assert keystore.listings[1] < keystore.listings[0] + LIST_INTERVAL


async def test_gap_in_the_log_during_a_listing_starts_another(keystore: Keystore) -> None:
    """The first one may have passed the changes."""
    keystore.on_listing = lambda: iter([[], []])
    await keystore.poll_until(lambda: len(keystore.listings) == 2)
    keystore.on_read = lambda: None
    await keystore.poll()
    keystore.on_read = set
    await keystore.poll_until(lambda: len(keystore.listings) == 3)
    assert keystore.listings[2] < keystore.listings[1] + LIST_INTERVAL


async def test_failed_read_of_the_log_is_no_resync(keystore: Keystore) -> None:
    """The entries are still there at the next try."""
    keystore.on_read = Mock(side_effect=[StoreUnavailableError("down"), {NAME.key}])
    for expected in ([], [CREATED]):
        assert await keystore.poll() == expected


async def test_failed_listing_is_a_resync_after_another(keystore: Keystore) -> None:
    def fail() -> Pages:
        yield []
        raise StoreUnavailableError("down")

    keystore.on_listing = Mock(side_effect=[fail(), iter([[VERSION]])])
    assert await keystore.poll_until_found() is None
    assert len(keystore.listings) == 3


async def test_pause_between_reads_of_the_log_counts_from_their_start(keystore: Keystore) -> None:
    keystore.on_read = lambda: keystore.take(0.3)
    await keystore.poll_until(lambda: len(keystore.reads) == 3)
    assert [after - before for before, after in pairwise(keystore.reads)] == [1.0, 1.0]


async def test_pause_after_a_long_read_of_the_log_is_half_the_interval(keystore: Keystore) -> None:
    keystore.on_read = lambda: keystore.take(3.0)
    await keystore.poll_until(lambda: len(keystore.reads) == 3)
    assert [after - before for before, after in pairwise(keystore.reads)] == [3.5, 3.5]


async def test_pause_after_a_long_listing_is_half_the_interval_of_the_log(
    keystore: Keystore,
) -> None:
    keystore.on_listing = lambda: iter([[]] * 100)
    await keystore.poll_until(lambda: len(keystore.listings) == 3)
    ended = keystore.pages[-2] + 19 * PROCESSOR_TIME
    assert keystore.listings[-1] == ended + 0.5
