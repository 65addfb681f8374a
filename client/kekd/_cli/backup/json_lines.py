"""A backup of a store's envelopes, in JSON Lines.

    {"format": "kekd-backup", "version": 1, "store": "disk:/…", "prefix": "", "time": "…"}
    {"index_name": "my_index", "blob": {…}, "etag": "…", "sha256": "…"}
    {"count": 1, "sha256": "…"}

An envelope is what `kekctl get --output json` prints, and its sha256 is that of the rest of its
line as canonical JSON: in ASCII, with sorted keys and no blanks. The sha256 of the last line is of
all the bytes before it. So no line can be changed, missing or doubled unnoticed; by accident, that
is: whoever can write the file can write its checksums.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any, BinaryIO, Final

from kekd._cli.json_format import DocumentError, EnvelopeJSON, content_of

_FORMAT: Final = "kekd-backup"
_VERSION: Final = 1
_SUM: Final = "sha256"


class BackupError(DocumentError):
    """The file isn't a whole backup: every problem, with its line, and nothing of the envelopes."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def lines(store: str, prefix: str, documents: Iterable[EnvelopeJSON]) -> Iterator[str]:
    """A backup, a line at a time."""
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "store": store,
        "prefix": prefix,
        "time": datetime.now(UTC).isoformat(),
    }
    envelopes = (it.content | {_SUM: _checksum(it.content)} for it in documents)
    count, digest = -1, hashlib.sha256()  # the header doesn't count
    for count, content in enumerate(chain([header], envelopes)):  # noqa: B007
        line = json.dumps(content) + "\n"
        digest.update(line.encode())
        yield line
    yield json.dumps({"count": count, _SUM: digest.hexdigest()}) + "\n"


def check(file: BinaryIO) -> set[str]:
    """Reads a backup to its end, and returns the names of its indexes. Raises `BackupError`."""
    checking = _Checking()
    for number, line in enumerate(file, 1):
        checking.take(number, line)
        if number == 1 and checking.problems:
            break  # it is something else
    checking.end()
    if checking.problems:
        raise BackupError(checking.problems)
    return checking.names


def parse(text: str) -> EnvelopeJSON:
    """An envelope from `kekctl get`, or a line of a backup. Raises `DocumentError`."""
    content = content_of(text)
    if isinstance(content, dict) and _SUM in content:
        return _document(content)
    return EnvelopeJSON.of(content)


def documents(file: BinaryIO) -> Iterator[EnvelopeJSON]:
    """The envelopes of a backup that was checked. Raises `BackupError` for one that was changed
    since.
    """
    for number, line in enumerate(file, 1):
        content = _parsed(line)
        if isinstance(content, dict) and "index_name" not in content:
            continue  # the first or the last line
        try:
            yield _document(content)
        except DocumentError as error:
            raise BackupError([f"line {number}: {error}"]) from None


@dataclass
class _Checking:
    problems: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    count: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    has_ended: bool = False

    def take(self, number: int, line: bytes) -> None:
        try:
            self._take(number, line)
        except DocumentError as error:
            self.problems.append(f"line {number}: {error}")
        self.digest.update(line)

    def end(self) -> None:
        if not self.problems and not self.has_ended:
            self.problems.append("the last line is missing: the file was cut off")

    def _take(self, number: int, line: bytes) -> None:
        content = _parsed(line)
        if number == 1:
            _check_header(content)
        elif self.has_ended:
            raise DocumentError("it comes after the end: import one backup at a time")
        elif isinstance(content, dict) and "count" in content:
            self._finish(content)
        else:
            self.count += 1
            self._note(_document(content).index_name)

    def _note(self, name: str) -> None:
        if name in self.names:
            raise DocumentError(f"a second envelope of index '{name}'")
        self.names.add(name)

    def _finish(self, content: dict[str, Any]) -> None:
        self.has_ended = True
        if content.get("count") != self.count:
            raise DocumentError(f"counts {content['count']} envelopes, and there are {self.count}")
        if content.get(_SUM) != self.digest.hexdigest():
            raise DocumentError("its checksum is of other lines: one was changed or moved")


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _check_header(content: object) -> None:
    match content:
        case {"format": "kekd-backup", "version": 1}:
            return
        case {"format": "kekd-backup"}:
            raise DocumentError("a backup of a newer kekctl: import it with that")
    raise DocumentError("not the beginning of what 'kekctl export' writes")


def _document(content: object) -> EnvelopeJSON:
    """Raises `DocumentError`."""
    if not isinstance(content, dict):
        raise DocumentError("not JSON, or not an envelope: it was damaged")
    rest = {key: value for key, value in content.items() if key != _SUM}
    if content.get(_SUM) != _checksum(rest):
        raise DocumentError("its checksum is of something else: it was changed")
    document = EnvelopeJSON.of(rest)
    try:
        document.index_name.encode()
    except UnicodeEncodeError:
        raise DocumentError("the index name isn't valid Unicode") from None
    return document


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
