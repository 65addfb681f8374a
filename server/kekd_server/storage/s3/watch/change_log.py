"""A numbered log of the writes to a bucket, so that daemons learn of each other's in a second.

[PREFIX/]_kekd/log/<20 digits>    the keys that one daemon wrote since its last entry

An entry is a hint that some records may have changed. A lost, wrong or repeated entry changes how
soon a watcher notices a write, and nothing else: the listings of `S3Watcher` notice every write. So
no write waits for the log.
"""

import json
import logging
from collections.abc import Collection
from typing import Final

from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import S3Client
from kekd_server.storage.s3.errors import S3Error

MAX_KEYS: Final = 1000
"""In one entry."""
RETAINED: Final = 1000
"""Entries that are kept. A reader that is further behind lists the keystore."""
_MAX_BYTES: Final = 1 << 20
_KEYS: Final = "keys"
_DIGITS: Final = 20
_END: Final = 10 ** (_DIGITS - 1) - 1
"""A larger number is no daemon's: the one after it might have more digits."""

_log = logging.getLogger(__name__)


class S3ChangeLog:
    """The entries. Methods raise `RequestError`, and the errors of botocore for credentials.

    Once S3 denies access to an entry, the log is off: nothing is written, and nothing is found.
    """

    def __init__(self, client: S3Client, location: S3Location) -> None:
        self._client = client
        self._folder = location.key("_kekd/log/")
        self._name = str(location)
        self.is_on = True

    def find_first(self, *, after: int) -> int | None:
        """Returns the first number after another one that has an entry."""
        return min(self._find_numbers(after), default=None)

    def find_last(self, *, after: int = 0) -> int:
        """Returns the last number that has an entry, or `after`."""
        return max(self._find_numbers(after), default=after)

    def remove_old(self) -> None:
        """Removes old entries that killed daemons left behind."""
        for number in sorted(self._find_numbers(0))[:-RETAINED]:
            self._client.delete_object(self._key(number), {})

    def _find_numbers(self, after: int) -> list[int]:
        start = self._key(after) if after else ""
        pages = self._client.list_objects_v2(self._folder, start_after=start)
        try:
            return [
                number
                for page in pages
                for listed in page
                if (number := self._number(listed.key)) is not None
            ]
        except S3Error as error:
            if self._turn_off_if_denied(error):
                return []
            raise

    def read(self, number: int) -> Collection[str] | None:
        """Returns the keys of an entry; None if there is none. An invalid entry has no keys."""
        try:
            content = self._client.get_object(self._key(number), _MAX_BYTES).content
        except S3Error as error:
            if error.is_missing or self._turn_off_if_denied(error):
                return None
            raise
        return _parse(content)

    def write(self, number: int, keys: Collection[str]) -> bool:
        """Writes an entry and removes the one that is too old now. Returns false if the number is
        taken.
        """
        content = json.dumps({_KEYS: list(keys)}).encode()
        try:
            self._client.put_object(self._key(number), content, {"if-none-match": "*"})
            if number > RETAINED:
                self._client.delete_object(self._key(number - RETAINED), {})
        except S3Error as error:
            if error.is_refusal:
                return False
            if not self._turn_off_if_denied(error):
                raise
        return True

    def _turn_off_if_denied(self, error: S3Error) -> bool:
        """Returns whether S3 denied access."""
        if error.code != "AccessDenied":
            return False
        if self.is_on:
            self.is_on = False
            _log.warning(
                "%s: the change log is off: S3 responded with %s; allow the daemon to get, put and"
                " delete objects under %s and restart it. Until then, watchers notice the writes of"
                " other daemons later",
                self._name,
                error,
                self._folder,
            )
        return True

    def _key(self, number: int) -> str:
        return f"{self._folder}{number:0{_DIGITS}}"

    def _number(self, key: str) -> int | None:
        """Returns None for an object that no daemon wrote."""
        digits = key.removeprefix(self._folder)
        is_number = len(digits) == _DIGITS and digits.isascii() and digits.isdecimal()
        number = int(digits) if is_number else _END
        return number if number < _END else None


def _parse(content: bytes) -> Collection[str]:
    try:
        keys = json.loads(content)[_KEYS]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        return ()
    return [key for key in keys if isinstance(key, str)]
