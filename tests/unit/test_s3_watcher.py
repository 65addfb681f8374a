"""The watcher of a bucket reports each poll."""

import asyncio
from contextlib import aclosing, nullcontext
from unittest.mock import Mock

from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.log_reader import S3LogReader
from kekd_server.storage.s3.watcher import S3Watcher
from tests.patience import PATIENCE


async def test_poll_of_s3_without_changes_yields_an_empty_list() -> None:
    driver = Mock(S3Driver, list_versions=lambda: iter(()), translate_errors=nullcontext)
    log_reader = Mock(S3LogReader, is_on=True, read=set)
    watcher = S3Watcher(driver, log_reader, "s3://b", 0.01)
    async with aclosing(watcher.poll(asyncio.to_thread)) as polls:
        for _ in range(3):
            assert await asyncio.wait_for(anext(polls), PATIENCE) == []
