"""The object that marks a keystore in S3, and distinguishes it from any other prefix.

[PREFIX/]_kekd/keystore    created with the keystore; exists also while it has no envelopes
"""

from typing import Final

from kekd_server.model.errors import NoKeystoreError
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import S3Client

_CONTENT: Final = b"There is a kekd keystore under this prefix, also while it has no envelopes.\n"


class S3Keystore:
    """Its methods raise `RequestError`, and the errors of botocore for credentials."""

    def __init__(self, location: S3Location) -> None:
        self._location = location
        self._key = location.key("_kekd/keystore")

    def is_marked(self, s3: S3Client) -> bool:
        return s3.find_object(self._key, len(_CONTENT) + 1) is not None

    def mark(self, s3: S3Client) -> None:
        s3.put_object(self._key, _CONTENT, {})

    def not_found(self) -> NoKeystoreError:
        where = "/".join(filter(None, (self._location.bucket, self._location.prefix)))
        return NoKeystoreError(f"s3://{where}", "the bucket or the prefix may be wrong")
