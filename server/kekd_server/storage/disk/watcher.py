"""Changes to a keystore folder, as the kernel tells of them (inotify(7)).

Of the libraries, asyncinotify tells when the kernel's queue has overflowed. watchfiles doesn't: of
20,000 files that were written while it was stopped it told of 5,476, and of the others nothing.
"""

import asyncio
import errno
import logging
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
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.watch.hub import Batch, InThread

_WRITES: Final = (
    Mask.CREATE
    | Mask.MOVED_TO
    | Mask.MODIFY  # truncate(2) closes nothing, and others may not for long
    | Mask.CLOSE_WRITE
    | Mask.MOVED_FROM
    | Mask.DELETE
)
_PATIENCE_SECONDS: Final = 10.0
"""Of looks, of which there is one a second."""
_LOOK_SECONDS: Final = 1.0
_MOST_EVENTS: Final = 1000
_LIMITS: Final = {
    errno.EMFILE: "fs.inotify.max_user_instances, or of the daemon's descriptors",
    errno.ENFILE: "fs.file-max",
    errno.ENOSPC: "fs.inotify.max_user_watches",
}

_log = logging.getLogger(__name__)


class DiskSource:
    """Notices what any process of this machine does in the folder.

    A notice has no more than a name; the etag is read when it comes, and is of the envelope as it
    is then. If the folder is replaced or goes away, it waits for one to be there again.

    What the kernel doesn't tell isn't noticed: writes through a name outside the folder, which a
    hard link or the target of a symlink has, or through mmap(2); on a network filesystem, those of
    other machines. Nor is a folder that was swapped and is back at the next look.
    """

    patience = _PATIENCE_SECONDS

    def __init__(self, driver: DiskDriver) -> None:
        self._path = driver.records
        self._driver = driver

    async def batches(self, in_thread: InThread) -> AsyncGenerator[Batch, None]:
        folder = await in_thread(partial(_Folder, self._path))
        start: Batch = []
        while True:
            with closing(folder):
                yield start
                while await in_thread(folder.is_there):
                    if await folder.has_events():
                        yield await in_thread(partial(self._changes, folder))
                    else:
                        yield []
            _log.warning("%s went away or was replaced: its changes aren't noticed", self._path)
            folder = await self._found_again(in_thread)
            _log.warning("%s is there: its changes are noticed again", self._path)
            start = None

    async def _found_again(self, in_thread: InThread) -> "_Folder":
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                return await in_thread(partial(_Folder, self._path))
            except KekdError:
                continue

    def _changes(self, folder: "_Folder") -> Batch:
        events = folder.take_events()
        if any(Mask.Q_OVERFLOW in event.mask for event in events):
            return None
        last = {name: event for event in events if (name := _name(event))}
        return [self._change(name, event) for name, event in last.items()]

    def _change(self, name: IndexName, event: Event) -> Change:
        """As kekd creates by link(2), which the kernel tells as such, and pushes by rename(2).

        What can't be read is told without an etag: whoever holds it has to read it again himself,
        and nobody anything else.
        """
        kind = ChangeKind.CREATED if Mask.CREATE in event.mask else ChangeKind.PUSHED
        try:
            return Change(kind, name, self._driver.get(name).etag)
        except EnvelopeNotFoundError:
            return Change(ChangeKind.DELETED, name)
        except KekdError as error:
            _log.warning("%s changed, and can't be read: %s", self._path / name.key, error)
            return Change(kind, name)


class _Folder:
    """A folder that is watched under its path. Raises `StoreMisconfiguredError` if it can't be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # Before it is watched: if it is replaced between, it isn't there at the first look.
            self._identity = _identity(path)
            self._inotify = Inotify(sync_timeout=0)
            self._inotify.add_watch(path, _WRITES | Mask.ONLYDIR)
        except OSError as error:
            limit = _LIMITS.get(error.errno or 0)
            advice = f" Raise the limit of {limit}." if limit else ""
            raise StoreMisconfiguredError(
                f"The folder {path} can't be watched: {error.strerror}.{advice}"
            ) from error
        self._more = False

    def close(self) -> None:
        self._inotify.close()

    def is_there(self) -> bool:
        """Whether the path leads to it still: no event tells that a folder above it was moved, or
        that something was mounted over it.
        """
        try:
            return _identity(self._path) == self._identity
        except OSError:
            return False

    async def has_events(self) -> bool:
        """When there are some, or when it is time for another look."""
        if self._more:
            return True
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._inotify.fd, readable.set)
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                return await readable.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._inotify.fd)

    def take_events(self) -> list[Event]:
        # Not by asyncinotify's get(), which loses what it has read if it is cancelled just then.
        events = list(islice(self._inotify, _MOST_EVENTS))
        # It reads more than it gives at once, and of that the descriptor says nothing.
        self._more = len(events) == _MOST_EVENTS
        return events


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _name(event: Event) -> IndexName | None:
    return IndexName.from_key(str(event.name)) if event.name else None
