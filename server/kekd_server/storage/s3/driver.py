"""Envelopes in an S3 bucket, or in any store that speaks S3 with conditional writes.

[PREFIX/]_catalog/config/<key>    the records, where CyborgDB 0.18 has them
[PREFIX/]_kekd/keystore           what marks a keystore (`S3Keystore`)
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
from kekd_server.storage.s3.errors import is_missing, translated
from kekd_server.storage.s3.keystore import S3Keystore
from kekd_server.storage.s3.object import S3Object, is_transient, retrying, unquoted
from kekd_server.storage.s3.write import S3Write
from kekd_server.storage.write_attempt import WriteAttempt

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

CONNECTIONS: Final = 32


def connect(location: S3Location) -> "S3Client":
    """A client whose calls end within half a minute whatever the endpoint does.

    Credentials come from AWS's default chain, which is looked through again where it had none, and
    when S3 says that they have ended. botocore retries nothing else: `s3_object` does.
    Raises `StoreMisconfiguredError` if there is no such region, profile or endpoint.
    """
    config = Config(
        connect_timeout=2,
        read_timeout=5,
        # It would send a write again whose answer was lost, blindly.
        retries={"total_max_attempts": 1},
        max_pool_connections=CONNECTIONS,
        # What AWS adds of its own accord since 2025, other servers may not know.
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
        raise StoreMisconfiguredError(f"The store {location} can't be used: {error}.") from error
    return client


def _addressing_style(location: S3Location) -> AddressingStyle:
    # botocore's own choice would be a host that few servers beside AWS's have a name for.
    is_auto = location.addressing_style == "auto"
    return "path" if is_auto and location.endpoint else location.addressing_style


def _find_credentials(region: str | None) -> Credentials | None:
    """By a session of their own, as one remembers what it read."""
    session = botocore.session.Session()
    if region:
        session.set_config_variable("region", region)  # where STS is asked for a role
    return session.get_credentials()


class S3Driver:
    """A bucket that any number of daemons and CyborgDB may share; nothing of it is kept here.

    Every write is conditional (If-None-Match or If-Match), also the unconditional ones of callers:
    S3 decides, so of several daemons one wins
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). CyborgDB itself
    writes without a condition: its create or push can replace a record that was written between its
    look and its write.
    """

    recognizes_attempts = True

    def __init__(
        self,
        client: "S3Client",
        location: S3Location,
        *,
        retried: Callable[[], None] = lambda: None,
    ) -> None:
        """`retried` is called at each request that repeats another."""
        self._retried = retried
        self._read_retries = retrying(is_transient, retried)
        self._s3 = client
        self._bucket = location.bucket
        self._folder = "/".join(filter(None, (location.prefix, "_catalog/config/")))
        self._keystore = S3Keystore(location)
        self._may_create = False
        self._in_doubt = False
        """Whether there may be no keystore, so that an envelope isn't missing but all of them."""

    def open(self, *, create: bool = False) -> bool:
        self._may_create, self._in_doubt = create, True
        try:
            with self._translated():
                return self._find_keystore()
        except NoKeystoreError:
            raise
        except StoreMisconfiguredError as error:
            # Credentials, permissions and buckets may come later; `check` reports them until then.
            raise StoreUnavailableError(str(error)) from error

    def check(self) -> None:
        """A get of the object that marks a keystore."""
        with self._translated():
            self._find_keystore()

    def check_writes(self) -> None:
        """Only a write tells."""

    def probe(self) -> None:
        with self._translated():
            self._keystore.mark(self._s3)

    def get(self, name: IndexName, *, once: bool = False) -> StoredRecord:  # noqa: ARG002
        with self._translated():
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
        with self._translated():
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
        with self._translated():
            self._require_keystore()
            return self._write(name, attempt).put(record, if_etag)

    def delete(
        self, name: IndexName, *, if_etag: str | None, attempt: WriteAttempt | None = None
    ) -> str | None:
        with self._translated():
            self._require_keystore()
            return self._write(name, attempt).delete(if_etag)

    def list(
        self,
        wanted: NameRange,
        after: IndexName | None,
        limit: int,
        *,
        listing: str,  # noqa: ARG002
    ) -> list[IndexName]:
        """Asks S3 for no more keys than it answers with, in S3's own order, which is ours."""
        with self._translated():
            self._require_keystore()
            return list(self._read_retries(self._list_once, wanted, after, limit))

    def _list_once(
        self, wanted: NameRange, after: IndexName | None, limit: int
    ) -> Sequence[IndexName]:
        names: list[IndexName] = []
        for first in wanted.keys:
            if after and first < after.key and not after.key.startswith(first):
                continue  # all of them come before
            for keys in self._pages(first, after, limit - len(names)):
                names += filter(None, map(wanted.name_of, keys))
                if len(names) >= limit:
                    return names[:limit]
        return names

    def _pages(self, first: str, after: IndexName | None, size: int) -> Iterator[Sequence[str]]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=self._folder + first,
            PaginationConfig={"PageSize": size},
            StartAfter=self._key(after) if after else "",
        )
        for page in pages:
            yield [it["Key"].removeprefix(self._folder) for it in page.get("Contents", [])]

    def stamps(self) -> Iterator[tuple[str, str, datetime]]:
        """Of every object in the folder: its key, its etag, and when it was written."""
        with self._translated():
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._folder
            )
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self._folder)
                    yield key, unquoted(item["ETag"]), item["LastModified"]

    def close(self) -> None:
        self._s3.close()

    def _require_keystore(self) -> None:
        """Costs a request only while there is a doubt."""
        if self._in_doubt:
            self._find_keystore()

    def _find_keystore(self) -> bool:
        """Whether it made a new one, which it does once at most. Raises `NoKeystoreError` if
        there is none.
        """
        is_new = False
        if not self._read_retries(self._keystore.is_marked, self._s3):
            is_new = not self._has_envelopes()
            if is_new and not self._may_create:
                self._in_doubt = True
                raise self._keystore.missing()
            self._mark(is_new=is_new)
        self._may_create = self._in_doubt = False
        return is_new

    def _mark(self, *, is_new: bool) -> None:
        """One that CyborgDB made too, so that it may get empty; if kekd may write there."""
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
            return StoredRecord(body.read(MAX_RECORD_BYTES), unquoted(answer["ETag"]))

    def _key(self, name: IndexName) -> str:
        return self._folder + name.key

    def _write(self, name: IndexName, attempt: WriteAttempt | None) -> S3Write:
        target = S3Object(self._s3, self._bucket, self._key(name), self._retried)
        return S3Write(target, name, attempt or WriteAttempt.single())

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"The store s3://{self._bucket} ({self._s3.meta.endpoint_url})")
