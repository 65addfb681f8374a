"""Changes to a bucket, by looking again and again."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Final, NamedTuple

from kekd_server.model.errors import KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.watch.hub import Batch, InThread

_BATCH: Final = 1000
_LONGEST_LOOK_SECONDS: Final = 300.0
"""Of some millions of envelopes."""

_log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    changes: Sequence[Change]
    marks: dict[str, int]
    """By key, a hash of what changes at every write. Of a million some 200 MB."""


class S3Source:
    """Lists the keystore at an interval, and compares with the listing before.

    Each poll is a request per 1,000 envelopes. What happens to one envelope between two polls is
    one change; a new one is taken for created.
    """

    def __init__(self, driver: S3Driver, poll_seconds: float) -> None:
        self._driver = driver
        self._poll_seconds = poll_seconds
        self.patience = poll_seconds + _LONGEST_LOOK_SECONDS

    async def batches(self, in_thread: InThread) -> AsyncGenerator[Batch, None]:
        marks = (await in_thread(partial(self._look, {}))).marks
        yield []
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                changes, marks = await in_thread(partial(self._look, marks))
            except KekdError as error:
                _log.warning("changes aren't noticed: %s", error)
                marks = (await self._seen_again(in_thread)).marks
                _log.warning("changes are noticed again")
                yield None
                continue
            for start in range(0, len(changes) or 1, _BATCH):
                yield changes[start : start + _BATCH]

    async def _seen_again(self, in_thread: InThread) -> _Seen:
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                return await in_thread(partial(self._look, {}))
            except KekdError:
                continue

    def _look(self, before: dict[str, int]) -> _Seen:
        """Uses `before` up."""
        changes, marks = [], {}
        for key, etag, written in self._driver.stamps():
            marks[key] = hash((etag, written))
            mark = before.pop(key, None)
            if mark != marks[key] and (name := IndexName.from_key(key)):
                changes.append(
                    Change(ChangeKind.PUSHED if mark else ChangeKind.CREATED, name, etag)
                )
        gone = filter(None, map(IndexName.from_key, before))
        return _Seen([*changes, *(Change(ChangeKind.DELETED, name) for name in gone)], marks)
