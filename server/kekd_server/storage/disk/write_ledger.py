"""The writes that any daemon recently applied to the records under one lock of a keystore folder.

The ledger is the content of the lock file, which every writer has open anyway:

    header   64 bytes   magic (16), boot id (16), complete since (8), host (16), zeros
    entry    64 bytes   id (16), time (8), status (1), had a record (1), digest of the key (6),
                        etag of the new record (16), etag of the old record (16)

Numbers are little-endian. Times are seconds of the monotonic clock, which all processes share until
the machine boots again. The file is never synced: it outlives a killed daemon, and after a power
cut the boot id shows that it may be incomplete.
"""

import errno
import hashlib
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from kekd_server.model.errors import HistoryUnavailableError
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.writes.attempt import ID_BYTES, RETENTION

MAX_ENTRIES: Final = 4096

_MAGIC: Final = b"kekd ledger v1\n\0"
_HEADER: Final = struct.Struct("<16s16sd16s8x")
_ENTRY: Final = struct.Struct("<16sdBB6s16s16s")
_KEY_BYTES: Final = 6
_KEY_OFFSET: Final = 26
_TIME: Final = struct.Struct("<d")
_SIZE: Final = _ENTRY.size
_FIRST_READ_BYTES: Final = 256 * _SIZE
"""Most ledgers are shorter. Allocating memory for the longest takes as long as a system call."""
_NO_ETAG: Final = bytes(16)
_NO_ID: Final = bytes(ID_BYTES)
_DISK_FULL_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT)


class EntryStatus(IntEnum):
    STARTED = 1
    """It may have been applied: the daemon died during the system call, or the call failed."""
    APPLIED = 2
    EXISTS = 3
    MISMATCH = 4


class Entry(NamedTuple):
    status: EntryStatus
    result: WriteResult
    """The result of an applied write. An empty etag means that it left no record."""
    is_last: bool
    """Whether no write of the same record was recorded after it."""


_NO_RESULT: Final = WriteResult("", None)


class WriteLedger:
    """The ledger in a lock file. Use it only while you hold the lock."""

    def __init__(self, file: int, key: str) -> None:
        """`key`: the key of the record to write."""
        self._file = file
        self._key = hashlib.blake2b(key.encode(), digest_size=_KEY_BYTES).digest()
        self._content = os.pread(file, _FIRST_READ_BYTES, 0)
        if len(self._content) == _FIRST_READ_BYTES:
            self._content += os.pread(file, (MAX_ENTRIES + 2) * _SIZE, _FIRST_READ_BYTES)
        self._check_header()

    def find(self, attempt_id: str) -> Entry | None:
        """Returns the entry of an attempt; None if it has none, or no longer."""
        at = self._find_last(bytes.fromhex(attempt_id), 0)
        if at is None:
            return None
        _, _, status, existed, _, etag, previous_etag = _ENTRY.unpack_from(self._content, at)
        result = WriteResult(_etag(etag), previous_etag.hex() if existed else None)
        return Entry(EntryStatus(status), result, self._is_last(at))

    @property
    def last_applied(self) -> str:
        """The attempt that wrote the record last; empty if that is unknown, or if it may not have
        been applied.
        """
        at = self._find_last(self._key, _KEY_OFFSET)
        if at is None:
            return ""
        attempt_id, _, status, *_ = _ENTRY.unpack_from(self._content, at)
        return attempt_id.hex() if status == EntryStatus.APPLIED else ""

    def _find_last(self, field: bytes, offset: int) -> int | None:
        """Returns the position of the last entry with these bytes at this offset."""
        at = self._content.rfind(field)
        while at >= 0 and (at - offset) % _SIZE:  # another field with the same bytes
            at = self._content.rfind(field, 0, at + len(field) - 1)
        at -= offset
        return at if _SIZE <= at <= len(self._content) - _SIZE else None

    def _is_last(self, at: int) -> bool:
        later = self._content[at + _SIZE :]
        later = later[: len(later) - len(later) % _SIZE]
        return all(key != self._key for _, _, _, _, key, _, _ in _ENTRY.iter_unpack(later))

    @property
    def is_complete(self) -> bool:
        """Whether the ledger has every write of the last `RETENTION` seconds."""
        return time.monotonic() - self._complete_since >= RETENTION

    def add(self, attempt_id: str, status: EntryStatus, result: WriteResult = _NO_RESULT) -> None:
        """Ignores a full disk: then the next attempt is decided again."""
        try:
            self._append(self._entry(attempt_id, status, result))
        except OSError as error:
            if error.errno not in _DISK_FULL_ERRORS:
                raise

    @contextmanager
    def commit(self, attempt_id: str, result: WriteResult) -> Iterator[bool]:
        """Records a write around the system calls that keep its version and apply it. A
        FileExistsError or HistoryUnavailableError removes the id of the entry, as the write changed
        nothing. After any other error the entry stays: a network filesystem, or a disk that failed
        later, may have applied the write.

        Yields whether it has an entry: if the disk has no room, a removal continues without one.
        """
        try:
            at = self._append(self._entry(attempt_id, EntryStatus.STARTED, result))
        except OSError as error:
            if error.errno not in _DISK_FULL_ERRORS or result.etag:
                raise
            yield False
            return
        try:
            yield True
        except (FileExistsError, HistoryUnavailableError):
            os.pwrite(self._file, _NO_ID, at)
            raise
        os.pwrite(self._file, self._entry(attempt_id, EntryStatus.APPLIED, result), at)

    def _check_header(self) -> None:
        boot = _boot_id()
        if len(self._content) >= _SIZE:
            magic, written_in, complete_since, host = _HEADER.unpack_from(self._content)
            if (magic, written_in) == (_MAGIC, boot):
                self._complete_since: float = complete_since
                return
            if magic == _MAGIC and host != _host():  # on a network filesystem
                self._complete_since = time.monotonic()
                self._rewrite(b"")
                return
        # Complete since the machine booted, at time 0. The writes before it are on disk or lost.
        self._complete_since = 0.0
        self._content = b""

    def _append(self, entry: bytes) -> int:
        """Returns its position in the file."""
        if not self._content:
            self._rewrite(b"")
        elif len(self._content) >= (MAX_ENTRIES + 1) * _SIZE:
            self._drop_oldest()
        at = len(self._content) - len(self._content) % _SIZE
        try:
            os.pwrite(self._file, entry, at)
        except OSError as error:
            if error.errno not in _DISK_FULL_ERRORS or at < 2 * _SIZE:
                raise
            self._drop_oldest()
            at = len(self._content)
            os.pwrite(self._file, entry, at)
        return at

    def _entry(self, attempt_id: str, status: EntryStatus, result: WriteResult) -> bytes:
        return _ENTRY.pack(
            bytes.fromhex(attempt_id),
            time.monotonic(),
            status,
            result.previous_etag is not None,
            self._key,
            bytes.fromhex(result.etag) or _NO_ETAG,
            bytes.fromhex(result.previous_etag or "") or _NO_ETAG,
        )

    def _drop_oldest(self) -> None:
        """Keeps the newer half, so that the next drop is far away."""
        entries = [self._content[at : at + _SIZE] for at in range(_SIZE, len(self._content), _SIZE)]
        dropped, kept = entries[: (len(entries) + 1) // 2], entries[(len(entries) + 1) // 2 :]
        self._complete_since = max(
            self._complete_since, *(_TIME.unpack_from(entry, ID_BYTES)[0] for entry in dropped)
        )
        self._rewrite(b"".join(kept))

    def _rewrite(self, entries: bytes) -> None:
        header = _HEADER.pack(_MAGIC, _boot_id(), self._complete_since, _host())
        self._content = header + entries
        os.pwrite(self._file, self._content, 0)
        os.ftruncate(self._file, len(self._content))


def _etag(field: bytes) -> str:
    return "" if field == _NO_ETAG else field.hex()


@cache
def _host() -> bytes:
    return hashlib.blake2b(os.uname().nodename.encode(), digest_size=ID_BYTES).digest()


@cache
def _boot_id() -> bytes:
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:  # not Linux: supported for development only
        return bytes(16)
    return bytes.fromhex(text.strip().replace("-", ""))
