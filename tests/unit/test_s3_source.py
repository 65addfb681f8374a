"""How often the source of a bucket is heard of."""

import asyncio
from contextlib import aclosing
from unittest.mock import Mock

from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.watcher import S3Source


async def test_each_poll_is_told_though_it_finds_nothing() -> None:
    driver = Mock(S3Driver, stamps=lambda: iter(()))
    async with aclosing(S3Source(driver, 0.01).batches(asyncio.to_thread)) as batches:
        for _ in range(3):
            assert await asyncio.wait_for(anext(batches), 5) == []
