"""The writes that any daemon applied lately to the records under one lock of a keystore folder.

It is the content of the lock's own file, so that whoever may write a record has it open already:

    header   64 bytes   magic (16), boot id (16), complete since (8), host (16), zeros
    entry    64 bytes   id (16), time (8), outcome (1), had a record (1), digest of the key (6),
                        etag of the new record (16), etag of the old record (16)

Numbers are little-endian; times are seconds of the monotonic clock, which all processes share
until the machine boots again. The file is never synced: it outlives a killed daemon, and after a
power cut the boot id tells that it may be incomplete.
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

from kekd_server.storage.driver import WriteResult
from kekd_server.storage.write_attempt import ID_BYTES, RETENTION

MAX_ENTRIES: Final = 4096

_MAGIC: Final = b"kekd ledger v1\n\0"
_HEADER: Final = struct.Struct("<16s16sd16s8x")
_ENTRY: Final = struct.Struct("<16sdBB6s16s16s")
_KEY_BYTES: Final = 6
_TIME: Final = struct.Struct("<d")
_SIZE: Final = _ENTRY.size
_NO_ETAG: Final = bytes(16)
_NO_ID: Final = bytes(ID_BYTES)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Outcome(IntEnum):
    STARTED = 1
    """It may have been applied: the daemon died at that moment, or the system call failed."""
    APPLIED = 2
    EXISTS = 3
    MISMATCH = 4


class Entry(NamedTuple):
    outcome: Outcome
    written: WriteResult
    """What an applied write answers with. An empty etag means that it left no record."""
    is_last: bool
    """Whether no write of the same record was recorded after it."""


NOTHING: Final = WriteResult("", None)


class WriteLedger:
    """The ledger in a lock's file. Use it only while you hold the lock."""

    def __init__(self, file: int, key: str) -> None:
        """`key` is of the record that is to be written."""
        self._file = file
        self._key = hashlib.blake2b(key.encode(), digest_size=_KEY_BYTES).digest()
        self._content = os.pread(file, (MAX_ENTRIES + 2) * _SIZE, 0)
        self._check_header()

    def find(self, attempt_id: str) -> Entry | None:
        """The write of that id. None if it wasn't begun here, or is no longer remembered."""
        wanted = bytes.fromhex(attempt_id)
        at = self._content.rfind(wanted)
        while at > 0 and at % _SIZE:  # the bytes of a field that happen to be the same
            at = self._content.rfind(wanted, 0, at + ID_BYTES - 1)
        if at < _SIZE or at + _SIZE > len(self._content):
            return None
        _, _, outcome, existed, _, after, before = _ENTRY.unpack_from(self._content, at)
        written = WriteResult(_etag(after), before.hex() if existed else None)
        return Entry(Outcome(outcome), written, self._is_last(at))

    def _is_last(self, at: int) -> bool:
        later = self._content[at + _SIZE :]
        later = later[: len(later) - len(later) % _SIZE]
        return all(key != self._key for _, _, _, _, key, _, _ in _ENTRY.iter_unpack(later))

    @property
    def is_complete(self) -> bool:
        """Whether each write that was applied in the last `RETENTION` seconds is remembered."""
        return time.monotonic() - self._complete_since >= RETENTION

    def add(self, attempt_id: str, outcome: Outcome, written: WriteResult = NOTHING) -> None:
        """Not where the disk has no room for it: the next attempt is decided again."""
        try:
            self._append(self._entry(attempt_id, outcome, written))
        except OSError as error:
            if error.errno not in _FULL:
                raise

    @contextmanager
    def applying(self, attempt_id: str, written: WriteResult) -> Iterator[None]:
        """Around the one system call that applies a write. FileExistsError withdraws the entry, as
        that call changed nothing. Any other error leaves that open: a network filesystem, or a disk
        that failed later on, may have applied it.

        A removal goes on without an entry where the disk has no room for one.
        """
        try:
            at = self._append(self._entry(attempt_id, Outcome.STARTED, written))
        except OSError as error:
            if error.errno not in _FULL or written.etag:
                raise
            yield
            return
        try:
            yield
        except FileExistsError:
            os.pwrite(self._file, _NO_ID, at)
            raise
        os.pwrite(self._file, self._entry(attempt_id, Outcome.APPLIED, written), at)

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
        # Since the machine booted, which was at time 0: what was applied then is on disk, and what
        # its power cut took of this file may not be.
        self._complete_since = 0.0
        self._content = b""

    def _append(self, entry: bytes) -> int:
        """Where it is in the file."""
        if not self._content:
            self._rewrite(b"")
        elif len(self._content) >= (MAX_ENTRIES + 1) * _SIZE:
            self._drop_oldest()
        at = len(self._content) - len(self._content) % _SIZE
        try:
            os.pwrite(self._file, entry, at)
        except OSError as error:
            if error.errno not in _FULL or at < 2 * _SIZE:
                raise
            self._drop_oldest()
            at = len(self._content)
            os.pwrite(self._file, entry, at)
        return at

    def _entry(self, attempt_id: str, outcome: Outcome, written: WriteResult) -> bytes:
        after = bytes.fromhex(written.etag) or _NO_ETAG
        before = bytes.fromhex(written.before or "") or _NO_ETAG
        existed = written.before is not None
        return _ENTRY.pack(
            bytes.fromhex(attempt_id), time.monotonic(), outcome, existed, self._key, after, before
        )

    def _drop_oldest(self) -> None:
        """Keeps the younger half, so that the next drop is far away."""
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
    except OSError:  # not Linux, which is for development alone
        return bytes(16)
    return bytes.fromhex(text.strip().replace("-", ""))
