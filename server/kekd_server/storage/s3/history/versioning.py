"""Whether a bucket keeps versions itself."""

import time
from enum import StrEnum
from typing import Final

from kekd_server.storage.s3.client import S3Client
from kekd_server.storage.s3.errors import InvalidResponseError, RequestError, S3Error

_INTERVAL: Final = 60.0
_REFUSALS: Final = ("AccessDenied", "MethodNotAllowed", "NotImplemented")


class Versioning(StrEnum):
    OFF = ""
    """The bucket never had versioning."""
    ENABLED = "Enabled"
    SUSPENDED = "Suspended"
    """The bucket has the versions of an earlier time, and keeps no new ones."""


_STATUSES: Final = frozenset(Versioning)


class BucketVersioning:
    """Asks S3 at most once a minute. No version is lost if the answer is out of date: the response
    to each read and write says whether S3 keeps that version.
    """

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self.known: Versioning | None = None
        """What S3 answered last; None if it never did."""
        self._next_request = 0.0
        self.refusal = ""
        """Why S3 didn't answer the last request; empty if it did."""

    def find(self) -> Versioning:
        """Raises `RequestError` if nothing is known, and the errors of botocore for credentials. A
        bucket whose versioning kekd can't read counts as one without.
        """
        if self.known is None or time.monotonic() >= self._next_request:
            try:
                self.known = self._request()
            except RequestError:
                if self.known is None:
                    raise
            self._next_request = time.monotonic() + _INTERVAL
        return self.known

    def forget(self) -> None:
        """Lets the next call of `find` ask S3."""
        self._next_request = 0.0

    def note_version(self, version_id: str) -> None:
        """Call it with the version id of a response. If it contradicts what is known, the next call
        of `find` asks S3.
        """
        if bool(version_id) != (self.known is Versioning.ENABLED):
            self.forget()

    def _request(self) -> Versioning:
        try:
            status = self._client.get_bucket_versioning()
        except S3Error as error:
            if error.code not in _REFUSALS:
                raise
            self.refusal = str(error)
            return Versioning.OFF
        except InvalidResponseError as error:  # such as a listing, from a server without versioning
            self.refusal = str(error)
            return self.known or Versioning.OFF
        self.refusal = ""
        return Versioning(status) if status in _STATUSES else Versioning.OFF
