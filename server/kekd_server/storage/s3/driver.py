"""Envelopes in an S3 bucket, or in any store that speaks S3 with conditional writes.

[PREFIX/]_catalog/config/<key>    the records, where CyborgDB 0.18 keeps them
[PREFIX/]_kekd/keystore           the marker of a keystore (see `S3Keystore`)
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Final

import botocore.session
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from kekd_common.aws_credentials import make_client
from kekd_server.model.errors import (
    EnvelopeNotFoundError,
    NoKeystoreError,
    StoreMisconfiguredError,
    StoreUnavailableError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import MAX_RECORD_BYTES, NameRange, StoredRecord, WriteResult
from kekd_server.storage.location import AddressingStyle, S3Location
from kekd_server.storage.s3.errors import is_missing, translate_errors
from kekd_server.storage.s3.keystore import S3Keystore
from kekd_server.storage.s3.object import S3Object, is_transient, retrier, unquote
from kekd_server.storage.s3.write import S3Write
from kekd_server.storage.write_attempt import WriteAttempt

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MAX_CONNECTIONS: Final = 32


def connect(location: S3Location) -> "S3Client":
    """Returns a client whose calls end within half a minute, whatever the endpoint does.

    Credentials come from AWS's default chain. They are looked up again if there were none, or if S3
    answers that they have expired. botocore retries nothing else; `S3Object` does. Raises
    `StoreMisconfiguredError` if the region, the profile or the endpoint is invalid.
    """
    config = Config(
        connect_timeout=2,
        read_timeout=5,
        # botocore would blindly repeat a write whose answer was lost.
        retries={"total_max_attempts": 1},
        max_pool_connections=MAX_CONNECTIONS,
        # Since 2025, botocore adds checksums by default, which other servers may not support.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": _addressing_style(location)},
    )
    try:
        client: S3Client = make_client(
            botocore.session.Session(),
            lambda: _find_credentials(location.region),
            "s3",
            region_name=location.region,
            endpoint_url=location.endpoint,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreMisconfiguredError(f"the store {location} cannot be used: {error}") from error
    return client


def _addressing_style(location: S3Location) -> AddressingStyle:
    # botocore would put the bucket into the host name, which few servers besides AWS's support.
    is_auto = location.addressing_style == "auto"
    return "path" if is_auto and location.endpoint else location.addressing_style


def _find_credentials(region: str | None) -> Credentials | None:
    """Uses a new session, as a session caches what it reads."""
    session = botocore.session.Session()
    if region:
        session.set_config_variable("region", region)  # for the STS endpoint that assumes a role
    return session.get_credentials()


class S3Driver:
    """A bucket that any number of daemons and CyborgDB may share. The driver keeps no state of it.

    Every request that writes is conditional (If-None-Match or If-Match), even for unconditional
    calls. S3 decides, so one of several daemons wins
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). CyborgDB writes
    without a condition: its create or push can replace a record that was written between its check
    and its write.
    """

    recognizes_attempts = True

    def __init__(
        self,
        client: "S3Client",
        location: S3Location,
        *,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_retry` is called before each request that repeats another."""
        self._on_retry = on_retry
        self._read_retries = retrier(is_transient, on_retry)
        self._s3 = client
        self._bucket = location.bucket
        self._folder = "/".join(filter(None, (location.prefix, "_catalog/config/")))
        self._keystore = S3Keystore(location)
        self._may_create = False
        self._may_be_missing = False
        """Whether there may be no keystore, so that a missing envelope proves nothing."""

    def open(self, *, create: bool = False) -> bool:
        self._may_create, self._may_be_missing = create, True
        try:
            with self._translate_errors():
                return self._find_keystore()
        except NoKeystoreError:
            raise
        except StoreMisconfiguredError as error:
            # Credentials, permissions and buckets may be added later; until then, `check` fails.
            raise StoreUnavailableError(str(error)) from error

    def check(self) -> None:
        """Gets the object that marks a keystore."""
        with self._translate_errors():
            self._find_keystore()

    def check_writes(self) -> None:
        """Never fails: only a write shows whether writes succeed."""

    def probe(self) -> None:
        with self._translate_errors():
            self._keystore.mark(self._s3)

    def get(self, name: IndexName, *, bypass_cache: bool = False) -> StoredRecord:  # noqa: ARG002
        with self._translate_errors():
            try:
                return self._read_retries(self._get, name)
            except ClientError as error:
                if is_missing(error):
                    self._require_keystore()
                    raise EnvelopeNotFoundError(name.value) from None
                raise

    def get_cached(self, name: IndexName) -> StoredRecord | None:  # noqa: ARG002
        return None

    def create(self, name: IndexName, record: bytes, *, attempt: WriteAttempt | None = None) -> str:
        with self._translate_errors():
            self._require_keystore()
            return self._write(name, attempt).create(record)

    def put(
        self,
        name: IndexName,
        record: bytes,
        *,
        if_etag: str | None,
        attempt: WriteAttempt | None = None,
    ) -> WriteResult:
        with self._translate_errors():
            self._require_keystore()
            return self._write(name, attempt).put(record, if_etag)

    def delete(
        self, name: IndexName, *, if_etag: str | None, attempt: WriteAttempt | None = None
    ) -> str | None:
        with self._translate_errors():
            self._require_keystore()
            return self._write(name, attempt).delete(if_etag)

    def list(
        self,
        names: NameRange,
        after: IndexName | None,
        limit: int,
        *,
        listing: str,  # noqa: ARG002
    ) -> list[IndexName]:
        """Lists no more keys than it returns. S3 sorts keys as the contract does."""
        with self._translate_errors():
            self._require_keystore()
            return list(self._read_retries(self._list_once, names, after, limit))

    def _list_once(
        self, names: NameRange, after: IndexName | None, limit: int
    ) -> Sequence[IndexName]:
        found: list[IndexName] = []
        for prefix in names.prefixes:
            if after and prefix < after.key and not after.key.startswith(prefix):
                continue  # all its keys come before
            for keys in self._pages(prefix, after, limit - len(found)):
                found += filter(None, map(names.name_of, keys))
                if len(found) >= limit:
                    return found[:limit]
        return found

    def _pages(self, prefix: str, after: IndexName | None, size: int) -> Iterator[Sequence[str]]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=self._folder + prefix,
            PaginationConfig={"PageSize": size},
            StartAfter=self._key(after) if after else "",
        )
        for page in pages:
            yield [item["Key"].removeprefix(self._folder) for item in page.get("Contents", [])]

    def list_versions(self) -> Iterator[tuple[str, str, datetime]]:
        """Yields the key, etag and modification time of every object in the folder."""
        with self._translate_errors():
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._folder
            )
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self._folder)
                    yield key, unquote(item["ETag"]), item["LastModified"]

    def close(self) -> None:
        self._s3.close()

    def _require_keystore(self) -> None:
        """Makes a request only while the keystore may be missing."""
        if self._may_be_missing:
            self._find_keystore()

    def _find_keystore(self) -> bool:
        """Returns whether it created a new keystore, which it does at most once. Raises
        `NoKeystoreError` if there is none.
        """
        is_new = False
        if not self._read_retries(self._keystore.is_marked, self._s3):
            is_new = not self._has_envelopes()
            if is_new and not self._may_create:
                self._may_be_missing = True
                raise self._keystore.not_found()
            self._mark(is_new=is_new)
        self._may_create = self._may_be_missing = False
        return is_new

    def _mark(self, *, is_new: bool) -> None:
        """Also marks a keystore that CyborgDB created, if kekd may write there. Without the marker,
        it would look missing once it is empty.
        """
        try:
            self._keystore.mark(self._s3)
        except ClientError:
            if is_new:
                raise

    def _has_envelopes(self) -> bool:
        answer = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self._folder, MaxKeys=1)
        return "Contents" in answer

    def _get(self, name: IndexName) -> StoredRecord:
        answer = self._s3.get_object(Bucket=self._bucket, Key=self._key(name))
        with answer["Body"] as body:
            return StoredRecord(body.read(MAX_RECORD_BYTES), unquote(answer["ETag"]))

    def _key(self, name: IndexName) -> str:
        return self._folder + name.key

    def _write(self, name: IndexName, attempt: WriteAttempt | None) -> S3Write:
        target = S3Object(self._s3, self._bucket, self._key(name), self._on_retry)
        return S3Write(target, name, attempt or WriteAttempt.single())

    def _translate_errors(self) -> AbstractContextManager[None]:
        return translate_errors(f"the store s3://{self._bucket} ({self._s3.meta.endpoint_url})")
