"""Notices changes to a keystore folder with inotify(7).

asyncinotify is used because it reports when the kernel's queue overflows. watchfiles doesn't: of
20,000 files that were written while it was stopped, it reported 5,476, and no overflow.
"""

import asyncio
import errno
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from asyncinotify import Event, Inotify, Mask

from kekd_server.model.errors import EnvelopeNotFoundError, KekdError, StoreMisconfiguredError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk.driver import DiskDriver
from kekd_server.storage.watch.event import Change, ChangeKind, OwnChange
from kekd_server.storage.watch.hub import Changes, RunInThread

_WRITES: Final = (
    Mask.CREATE
    | Mask.MOVED_TO
    | Mask.MODIFY  # truncate(2) closes nothing, and writers may keep a file open for long
    | Mask.CLOSE_WRITE
    | Mask.MOVED_FROM
    | Mask.DELETE
)
_NAMED: Final = Mask.CREATE | Mask.MOVED_TO
"""A file got the name of a record."""
_POLL_INTERVAL: Final = 1.0
_POLL_TIMEOUT: Final = 10.0
_COLLECT_INTERVAL: Final = 0.01
"""Seconds for which events are collected while they are frequent."""
_OWN_COLLECT_INTERVAL: Final = 0.05
"""The same while only this daemon writes. Its subscribers get its writes without the watcher."""
_MAX_EVENTS_PER_POLL: Final = 1000
_LIMITS: Final = {
    errno.EMFILE: "fs.inotify.max_user_instances, or of the daemon's descriptors",
    errno.ENFILE: "fs.file-max",
    errno.ENOSPC: "fs.inotify.max_user_watches",
}

_log = logging.getLogger(__name__)


class DiskWatcher:
    """Notices the changes that any process of this machine makes in the folder.

    An event has only the name of a file. The etag is read when the event arrives, and belongs to
    the envelope at that moment. If the folder is replaced or disappears, the watcher waits until
    one is there again.

    It doesn't notice writes that the kernel doesn't report: through a name outside the folder (a
    hard link, or the target of a symlink), through mmap(2), or by other machines on a network
    filesystem. Nor does it notice a folder that was swapped and is back at the next poll.
    """

    timeout = _POLL_TIMEOUT

    def __init__(self, driver: DiskDriver) -> None:
        self._path = driver.records_folder
        self._driver = driver
        self._next_poll = 0.0

    def note_write(self, name: IndexName) -> None:
        """Does nothing: inotify reports this daemon's writes too."""

    async def poll(self, run_in_thread: RunInThread) -> AsyncGenerator[Changes, None]:
        folder = await run_in_thread(partial(_WatchedFolder, self._path))
        first: Changes = []
        while True:
            with closing(folder):
                yield first
                is_in_place = await run_in_thread(folder.is_in_place)
                while is_in_place:
                    if await folder.has_events():
                        await self._collect()
                        changes, is_in_place = await run_in_thread(partial(self._take, folder))
                        yield changes
                    else:
                        yield []
                        is_in_place = await run_in_thread(folder.is_in_place)
            _log.warning("%s disappeared or was replaced: cannot watch for changes", self._path)
            folder = await self._wait_for_folder(run_in_thread)
            _log.warning("%s is back: watching for changes again", self._path)
            first = None

    async def _collect(self) -> None:
        """Takes events together while they are frequent."""
        if (wait := self._next_poll - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        self._next_poll = time.monotonic() + _COLLECT_INTERVAL

    async def _wait_for_folder(self, run_in_thread: RunInThread) -> "_WatchedFolder":
        while True:
            await asyncio.sleep(_POLL_INTERVAL)
            try:
                return await run_in_thread(partial(_WatchedFolder, self._path))
            except KekdError:
                continue

    def _take(self, folder: "_WatchedFolder") -> tuple[Changes, bool]:
        """Returns the changes, and whether the folder is in place, in one call for a thread."""
        changes = self._changes(folder)
        if changes and all(isinstance(change, OwnChange) for change in changes):
            self._next_poll += _OWN_COLLECT_INTERVAL - _COLLECT_INTERVAL
        return changes, folder.is_in_place()

    def _changes(self, folder: "_WatchedFolder") -> Changes:
        events = folder.take_events()
        if any(Mask.Q_OVERFLOW in event.mask for event in events):
            return None
        last = {name: event for event in events if (name := _name(event))}
        return [self._change(name, event) for name, event in last.items()]

    def _change(self, name: IndexName, event: Event) -> Change:
        """A link(2), with which kekd creates, is reported as a creation; a rename(2), with which it
        pushes, isn't. A change of an unreadable file has no etag.

        The daemon's own records aren't read again. Another event reports what is written into them
        later.
        """
        kind = ChangeKind.CREATED if Mask.CREATE in event.mask else ChangeKind.PUSHED
        if event.mask & _NAMED and (etag := self._driver.find_own_write(name)):
            return OwnChange(kind, name, etag)
        try:
            return Change(kind, name, self._driver.get(name).etag)
        except EnvelopeNotFoundError:
            return Change(ChangeKind.DELETED, name)
        except KekdError as error:
            _log.warning("%s changed, and cannot be read: %s", self._path / name.key, error)
            return Change(kind, name)


class _WatchedFolder:
    """Watches the folder at a path. Raises `StoreMisconfiguredError` if that fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # Before the watch starts: then `is_in_place` notices a replacement in between.
            self._identity = _identity(path)
            self._inotify = Inotify(sync_timeout=0)
            self._inotify.add_watch(path, _WRITES | Mask.ONLYDIR)
        except OSError as error:
            limit = _LIMITS.get(error.errno or 0)
            advice = f"; raise the limit of {limit}" if limit else ""
            raise StoreMisconfiguredError(
                f"the folder {path} cannot be watched: {error.strerror}{advice}"
            ) from error
        self._has_more = False

    def close(self) -> None:
        self._inotify.close()

    def is_in_place(self) -> bool:
        """Whether the path still leads to this folder. No event reports that a folder above it was
        moved, or that a volume was mounted over it.
        """
        try:
            return _identity(self._path) == self._identity
        except OSError:
            return False

    async def has_events(self) -> bool:
        """Waits for events, or until the next poll is due."""
        if self._has_more:
            return True
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._inotify.fd, readable.set)
        try:
            async with asyncio.timeout(_POLL_INTERVAL):
                return await readable.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._inotify.fd)

    def take_events(self) -> list[Event]:
        # Not with asyncinotify's get(), which loses the events it has read when it is cancelled.
        events = list(islice(self._inotify, _MAX_EVENTS_PER_POLL))
        # It reads more events than it returns, and the descriptor isn't readable for those.
        self._has_more = len(events) == _MAX_EVENTS_PER_POLL
        return events


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _name(event: Event) -> IndexName | None:
    return IndexName.from_key(str(event.name)) if event.name else None
