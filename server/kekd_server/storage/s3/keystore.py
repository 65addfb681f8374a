"""The object that marks a keystore in S3, and distinguishes it from any other prefix.

[PREFIX/]_kekd/keystore    created with the keystore; exists also while it has no envelopes
"""

from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from kekd_server.model.errors import NoKeystoreError
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.errors import is_missing

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_CONTENT: Final = b"There is a kekd keystore under this prefix, also while it has no envelopes.\n"


class S3Keystore:
    """Its methods raise the errors of botocore."""

    def __init__(self, location: S3Location) -> None:
        self._location = location
        self._key = "/".join(filter(None, (location.prefix, "_kekd/keystore")))

    def is_marked(self, s3: "S3Client") -> bool:
        try:
            with s3.get_object(Bucket=self._location.bucket, Key=self._key)["Body"]:
                return True
        except ClientError as error:
            # Only if the object is missing. A missing bucket is an error.
            if is_missing(error):
                return False
            raise

    def mark(self, s3: "S3Client") -> None:
        s3.put_object(Bucket=self._location.bucket, Key=self._key, Body=_CONTENT)

    def not_found(self) -> NoKeystoreError:
        where = "/".join(filter(None, (self._location.bucket, self._location.prefix)))
        return NoKeystoreError(f"s3://{where}", "the bucket or the prefix may be wrong")
