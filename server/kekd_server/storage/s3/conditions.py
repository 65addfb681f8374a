"""Finds out which conditions of writes the S3 server doesn't honour."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import S3Client
from kekd_server.storage.s3.errors import RequestError, S3Error

_ABSENT: Final = {"if-none-match": "*"}
_WRONG_ETAG: Final = {"if-match": f'"{"0" * 32}"'}
_MAX_BYTES: Final = 16


class S3ConditionCheck:
    """Writes an object of its own, one request after the other, and deletes it.

    [PREFIX/]_kekd/conditions/<random>    exists while the check runs

    It doesn't show whether the server compares and writes in one step: `kekctl doctor` tries that.
    """

    def __init__(self, client: S3Client, location: S3Location) -> None:
        self._client = client
        self._key = location.key(f"_kekd/conditions/{secrets.token_hex(8)}")

    def run(self) -> Sequence[str]:
        """Returns the conditions that the server doesn't honour. Raises `RequestError`, and the
        errors of botocore for credentials.
        """
        try:
            return list(self._find_ignored())
        finally:
            with suppress(RequestError, BotoCoreError, ClientError):
                self._client.delete_object(self._key, {})

    def _find_ignored(self) -> Iterator[str]:
        put = partial(self._client.put_object, self._key)
        is_supported = _is_supported(lambda: put(b"first", _ABSENT))
        if not is_supported:
            put(b"first", {})
        if not is_supported or _is_accepted(lambda: put(b"second", _ABSENT)):
            yield "If-None-Match in PutObject"
        takes_wrong_etag = _is_accepted(lambda: put(b"third", _WRONG_ETAG))
        if takes_wrong_etag or not _is_accepted(lambda: put(b"fourth", self._current_etag())):
            yield "If-Match in PutObject"
        delete = partial(self._client.delete_object, self._key)
        takes_wrong_etag = _is_accepted(lambda: delete(_WRONG_ETAG))
        if takes_wrong_etag or not _is_accepted(lambda: delete(self._current_etag())):
            yield "If-Match in DeleteObject"

    def _current_etag(self) -> Mapping[str, str]:
        return {"if-match": f'"{self._client.get_object(self._key, _MAX_BYTES).etag}"'}


def _is_supported(write: Callable[[], object]) -> bool:
    try:
        write()
    except S3Error as error:
        if error.is_unsupported:
            return False
        raise
    return True


def _is_accepted(write: Callable[[], object]) -> bool:
    try:
        return _is_supported(write)
    except S3Error as error:
        if error.is_refusal or error.is_missing:
            return False
        raise
