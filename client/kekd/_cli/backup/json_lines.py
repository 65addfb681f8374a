"""The backup format: a store's envelopes in JSON Lines.

    {"format": "kekd-backup", "version": 1, "store": "disk:/…", "prefix": "", "time": "…"}
    {"index_name": "my_index", "blob": {…}, "etag": "…", "sha256": "…"}
    {"count": 1, "sha256": "…"}

An envelope line is the output of `kekctl get --output json`, plus the sha256 of that content as
canonical JSON: ASCII, sorted keys, no white space. A backup with the history is of version 2. After
the envelopes, it has a line for each version (version_json.py). The sha256 of the last line covers
all bytes before that line. The checksums detect accidental damage: changed, missing and duplicate
lines. They don't detect forgery.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, groupby
from typing import Any, BinaryIO, Final, NamedTuple

from kekd._cli.backup.version_json import (
    is_deletion,
    is_version,
    parse_envelope,
    parse_version,
)
from kekd._cli.errors import BackupError, EnvelopeJSONError
from kekd._cli.output.json_format import EnvelopeJSON
from kekd._models import EnvelopeVersion

_FORMAT: Final = "kekd-backup"
_VERSION: Final = 1
_VERSION_WITH_HISTORY: Final = 2
_SUM: Final = "sha256"
_REPLACE: Final = "use another backup"


class BackupContent(NamedTuple):
    names: set[str]
    """The indexes that have an envelope."""
    histories: set[str]
    """The indexes that have versions."""


def lines(
    store: str,
    prefix: str,
    envelopes: Iterable[EnvelopeJSON],
    versions: Iterable[dict[str, Any]] | None = None,
) -> Iterator[str]:
    """Yields the lines of a backup. `versions`: as JSON values, in a backup with the history."""
    header = {
        "format": _FORMAT,
        "version": _VERSION if versions is None else _VERSION_WITH_HISTORY,
        "store": store,
        "prefix": prefix,
        "time": datetime.now(UTC).isoformat(),
    }
    contents = chain((one.as_content() for one in envelopes), versions or ())
    summed = (content | {_SUM: _checksum(content)} for content in contents)
    count, digest = -1, hashlib.sha256()  # the header isn't counted
    for count, content in enumerate(chain([header], summed)):  # noqa: B007
        line = json.dumps(content) + "\n"
        digest.update(line.encode())
        yield line
    yield json.dumps({"count": count, _SUM: digest.hexdigest()}) + "\n"


def check(file: BinaryIO) -> BackupContent:
    """Reads a whole backup. Raises `BackupError`."""
    checker = _Checker()
    for number, line in enumerate(file, 1):
        checker.add_line(number, line)
        if number == 1 and checker.problems:
            break  # not a backup
    checker.finish()
    if checker.problems:
        raise BackupError(checker.problems)
    return BackupContent(checker.names, {name for name, _ in checker.versions})


def from_content(content: Any) -> EnvelopeJSON:
    """Converts the parsed output of `kekctl get`, or of a line of a backup.

    Raises `EnvelopeJSONError`.
    """
    if isinstance(content, dict) and _SUM in content:
        return _parse_envelope(_verify(content))
    return EnvelopeJSON.from_content(content)


def read_envelopes(file: BinaryIO) -> Iterator[EnvelopeJSON]:
    """Reads a checked backup. Raises `BackupError` if the file has changed since the check."""
    for number, line in enumerate(file, 1):
        content = _parse_line(line)
        if isinstance(content, dict) and ("index_name" not in content or is_version(content)):
            continue  # the first or the last line, or a version
        try:
            yield _parse_envelope(_verify(content))
        except EnvelopeJSONError as error:
            raise BackupError([f"line {number}: {error}"]) from None


def read_histories(file: BinaryIO) -> Iterator[tuple[str, list[EnvelopeVersion]]]:
    """Reads each index of a checked backup with its versions. Raises `BackupError`."""
    for name, versions in groupby(_read_versions(file), key=lambda pair: pair[0]):
        yield name, [version for _, version in versions]


def _read_versions(file: BinaryIO) -> Iterator[tuple[str, EnvelopeVersion]]:
    for number, line in enumerate(file, 1):
        content = _parse_line(line)
        if isinstance(content, dict) and is_version(content):
            try:
                yield content["index_name"], parse_version(_verify(content))
            except EnvelopeJSONError as error:
                raise BackupError([f"line {number}: {error}"]) from None


@dataclass
class _Checker:
    problems: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    versions: set[tuple[str, str]] = field(default_factory=set)
    count: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    has_ended: bool = False

    def add_line(self, number: int, line: bytes) -> None:
        try:
            self._check_line(number, line)
        except EnvelopeJSONError as error:
            self.problems.append(f"line {number}: {error}")
        self.digest.update(line)

    def finish(self) -> None:
        if not self.problems and not self.has_ended:
            self.problems.append(f"the last line is missing: the file is truncated; {_REPLACE}")

    def _check_line(self, number: int, line: bytes) -> None:
        content = _parse_line(line)
        if number == 1:
            _check_header(content)
        elif self.has_ended:
            raise EnvelopeJSONError("line after the end of the backup; import one backup at a time")
        elif isinstance(content, dict) and "count" in content:
            self._check_trailer(content)
        else:
            self.count += 1
            self._add(_verify(content))

    def _add(self, content: dict[str, Any]) -> None:
        if not is_deletion(content):
            _parse_envelope(content)
        if is_version(content):
            parse_version(content)
            self._add_version(str(content["index_name"]), str(content["version_id"]))
        else:
            self._add_name(content["index_name"])

    def _add_version(self, name: str, version_id: str) -> None:
        if (name, version_id) in self.versions:
            raise EnvelopeJSONError(
                f"duplicate version '{version_id}' of index '{name}'; {_REPLACE}"
            )
        self.versions.add((name, version_id))

    def _add_name(self, name: str) -> None:
        if name in self.names:
            raise EnvelopeJSONError(f"duplicate index '{name}'; {_REPLACE}")
        self.names.add(name)

    def _check_trailer(self, content: dict[str, Any]) -> None:
        self.has_ended = True
        if content.get("count") != self.count:
            raise EnvelopeJSONError(
                f"the last line counts {content['count']} lines, but there are {self.count};"
                f" {_REPLACE}"
            )
        if content.get(_SUM) != self.digest.hexdigest():
            raise EnvelopeJSONError(f"checksum mismatch: a line was changed or moved; {_REPLACE}")


def _parse_line(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _check_header(content: object) -> None:
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise EnvelopeJSONError("not a backup by 'kekctl export'; use one")
    if content.get("version") not in {_VERSION, _VERSION_WITH_HISTORY}:
        raise EnvelopeJSONError("the backup is from a newer kekctl; upgrade kekctl to import it")


def _verify(content: object) -> dict[str, Any]:
    """Verifies the checksum of a line, and removes it. Raises `EnvelopeJSONError`."""
    if not isinstance(content, dict):
        raise EnvelopeJSONError(f"not an envelope in JSON: the line is damaged; {_REPLACE}")
    unsummed = {key: value for key, value in content.items() if key != _SUM}
    if content.get(_SUM) != _checksum(unsummed):
        raise EnvelopeJSONError(f"checksum mismatch: the line was changed; {_REPLACE}")
    return unsummed


def _parse_envelope(content: dict[str, Any]) -> EnvelopeJSON:
    envelope = parse_envelope(content)
    try:
        envelope.index_name.encode()
    except UnicodeEncodeError:
        raise EnvelopeJSONError(f"the index name isn't valid Unicode; {_REPLACE}") from None
    return envelope


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
