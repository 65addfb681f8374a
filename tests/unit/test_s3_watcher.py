"""The watcher of a bucket reports each poll."""

import asyncio
import itertools
from contextlib import aclosing, nullcontext
from unittest.mock import Mock

import pytest

from kekd_server.model.errors import StoreUnavailableError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.s3 import watcher
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.listing import ListedObject
from kekd_server.storage.s3.log_reader import S3LogReader
from kekd_server.storage.s3.watcher import S3Watcher
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.watch.hub import Changes
from tests.patience import PATIENCE

NAME = IndexName("one")


class Poller:
    """A watcher whose polls are made one by one."""

    def __init__(self, driver: Mock, log_reader: Mock) -> None:
        self.watcher = S3Watcher(driver, log_reader, "s3://b", 0.01)
        self._polls = self.watcher.poll(asyncio.to_thread)

    async def next(self) -> Changes:
        return await asyncio.wait_for(anext(self._polls), PATIENCE)

    async def close(self) -> None:
        await self._polls.aclose()


async def test_poll_of_s3_without_changes_yields_an_empty_list() -> None:
    driver = Mock(S3Driver, scan_objects=lambda: iter(()), translate_errors=nullcontext)
    log_reader = Mock(S3LogReader, is_on=True, read=set)
    poller = Poller(driver, log_reader)
    for _ in range(3):
        assert await poller.next() == []
    await poller.close()


async def test_listing_pauses_for_nine_times_its_processor_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So it slows other calls by a tenth at most, however many envelopes there are."""
    processor_time = itertools.count(0.0, 0.5)
    pauses: list[float] = []
    monkeypatch.setattr(
        watcher,
        "time",
        Mock(thread_time=lambda: next(processor_time), monotonic=lambda: 0.0, sleep=pauses.append),
    )
    pages = [[ListedObject("a", "1", "m")], [ListedObject("b", "1", "m")]]
    driver = Mock(S3Driver, scan_objects=lambda: iter(pages), translate_errors=nullcontext)
    polls = S3Watcher(driver, Mock(S3LogReader, is_on=True), "s3://b", 1).poll(asyncio.to_thread)
    async with aclosing(polls):
        await asyncio.wait_for(anext(polls), PATIENCE)
    assert pauses == [4.5, 4.5]


async def test_failed_read_of_the_log_is_no_resync() -> None:
    """The entries are still there at the next try."""
    read = Mock(side_effect=[StoreUnavailableError("down"), {NAME.key}])
    version = ListedObject(NAME.key, "etag", "m")
    driver = Mock(
        S3Driver,
        scan_objects=lambda: iter(()),
        find_object=lambda _: version,
        translate_errors=nullcontext,
    )
    poller = Poller(driver, Mock(S3LogReader, is_on=True, read=read))
    poller.watcher._list_interval = 3600
    for expected in ([], [], [Change(ChangeKind.CREATED, NAME, "etag")]):
        assert await poller.next() == expected
    await poller.close()


async def test_own_write_that_is_missing_in_the_next_listing_was_deleted() -> None:
    driver = Mock(S3Driver, scan_objects=lambda: iter(()), translate_errors=nullcontext)
    poller = Poller(driver, Mock(S3LogReader, is_on=True, read=set))
    assert await poller.next() == []
    poller.watcher.note_write(NAME)
    changes = await poller.next()
    while not changes:
        changes = await poller.next()
    assert changes == [Change(ChangeKind.DELETED, NAME)]
    await poller.close()
