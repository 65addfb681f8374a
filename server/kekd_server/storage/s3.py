"""Envelopes in an S3 bucket, or in any store that speaks S3 with conditional writes.

[PREFIX/]_catalog/config/<key>    the records, where CyborgDB 0.18 has them
[PREFIX/]_kekd/keystore           what marks a keystore (`S3Keystore`)
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import boto3
import botocore.session
import tenacity
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from kekd_proto.aws_credentials import RenewableCredentials
from kekd_server.errors import (
    EnvelopeExistsError,
    EnvelopeNotFoundError,
    EtagMismatchError,
    NoKeystoreError,
    StoreUnavailableError,
    StoreUnusableError,
)
from kekd_server.names import IndexName
from kekd_server.storage.driver import MOST_BYTES, NameRange, Stored, Written
from kekd_server.storage.location import AddressingStyle, S3Location
from kekd_server.storage.s3_errors import CONFLICT, translated
from kekd_server.storage.s3_errors import code_of as _code
from kekd_server.storage.s3_errors import status_of as _status
from kekd_server.storage.s3_keystore import S3Keystore

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

CONNECTIONS: Final = 32
_ATTEMPTS: Final = 2
"""Few, as callers retry too: an S3 that is down is told as such within their default timeout."""
_MARK: Final = "kekd-write"
"""Object metadata that names the call which wrote the object."""

_SENDABLE: Final = re.compile(r"[!-~]*")
"""What a header can carry of an etag; S3 gives no other."""

_PRECONDITION_FAILED: Final = 412
_NOT_FOUND: Final = 404


def connect(location: S3Location) -> "S3Client":
    """A client whose calls end within half a minute whatever the endpoint does.

    Credentials come from AWS's default chain, which is looked through again where it had none, and
    when S3 says that they have ended. 5xx answers, throttling and broken connections are retried
    with jitter by botocore's standard mode
    (https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html).
    Raises `StoreUnusableError` if there is no such region, profile or endpoint.
    """
    config = Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        # What AWS adds of its own accord since 2025, other servers may not know.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": _addressing_style(location)},
    )
    credentials = RenewableCredentials(lambda: _find_credentials(location.region))
    try:
        session: Any = botocore.session.Session()
        # There is no public way to give a session credentials that renew themselves.
        session._credentials = credentials  # noqa: SLF001
        client: S3Client = boto3.Session(botocore_session=session).client(
            "s3", region_name=location.region, endpoint_url=location.endpoint, config=config
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreUnusableError(f"The store {location} can't be used: {error}.") from error
    credentials.attach(client)
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

    Create is PutObject with If-None-Match, put and delete with an etag are If-Match: S3 decides, so
    of several daemons one wins
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). CyborgDB itself
    writes without a condition: its create or push can replace a record that was written between its
    look and its write.

    Whether a delete found something is asked beforehand, as S3 doesn't say: of two deletes at once
    both may answer that they did.
    """

    def __init__(
        self,
        client: "S3Client",
        location: S3Location,
        *,
        retried: Callable[[], None] = lambda: None,
    ) -> None:
        """`retried` is called at each request that repeats another."""
        self._retried = retried
        self._patient = _PATIENT.copy(before_sleep=lambda _: retried())
        self._use(client)
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
        except StoreUnusableError as error:
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

    def get(self, name: IndexName, *, once: bool = False) -> Stored:  # noqa: ARG002
        with self._translated():
            try:
                answer = self._s3.get_object(Bucket=self._bucket, Key=self._key(name))
                with answer["Body"] as body:
                    return Stored(body.read(MOST_BYTES), _opened(answer["ETag"]))
            except ClientError as error:
                if _code(error) == "NoSuchKey":
                    self._require_keystore()
                    raise EnvelopeNotFoundError(name.value) from None
                raise

    def peek(self, name: IndexName) -> Stored | None:  # noqa: ARG002
        return None

    def create(self, name: IndexName, record: bytes) -> str:
        with self._translated():
            self._require_keystore()
            try:
                return self._write(name, record, IfNoneMatch="*")
            except ClientError as error:
                if _status(error) == _PRECONDITION_FAILED:
                    raise EnvelopeExistsError(name.value) from None
                raise

    def put(self, name: IndexName, record: bytes, *, if_etag: str | None) -> Written:
        with self._translated():
            self._require_keystore()
            if if_etag is None:
                return Written(self._write(name, record), None)
            if not _SENDABLE.fullmatch(if_etag):
                raise EtagMismatchError(name.value)
            try:
                etag = self._write(name, record, IfMatch=_quoted(if_etag))
                return Written(etag, if_etag)
            except ClientError as error:
                if _status(error) == _PRECONDITION_FAILED or _code(error) == "NoSuchKey":
                    raise EtagMismatchError(name.value) from None
                raise

    def delete(self, name: IndexName, *, if_etag: str | None) -> str | None:
        try:
            found = self.get(name)
        except EnvelopeNotFoundError:
            return None
        if if_etag is not None and found.etag != if_etag:
            raise EtagMismatchError(name.value)
        condition = {} if if_etag is None else {"IfMatch": _quoted(if_etag)}
        with self._translated():
            try:
                self._patient(
                    self._s3.delete_object, Bucket=self._bucket, Key=self._key(name), **condition
                )
            except ClientError as error:
                if _status(error) == _PRECONDITION_FAILED:
                    raise EtagMismatchError(name.value) from None
                if _code(error) != "NoSuchKey":  # gone since we looked, which is as good
                    raise
        return found.etag

    def list(
        self,
        wanted: NameRange,
        after: IndexName | None,
        limit: int,
        *,
        listing: str,  # noqa: ARG002
    ) -> list[IndexName]:
        """Asks S3 for no more keys than it answers with, in S3's own order, which is ours."""
        names: list[IndexName] = []
        with self._translated():
            self._require_keystore()
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
                    yield key, _opened(item["ETag"]), item["LastModified"]

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
        if not self._keystore.is_marked(self._s3):
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

    def _use(self, client: "S3Client") -> None:
        client.meta.events.register("request-created.s3", self._count_repeated)
        self._s3 = client

    def _count_repeated(self, request: Any, **_: object) -> None:
        """By botocore, which numbers them."""
        if request.context.get("retries", {}).get("attempt", 1) > 1:
            self._retried()

    def _key(self, name: IndexName) -> str:
        return self._folder + name.key

    def _write(self, name: IndexName, record: bytes, **condition: Any) -> str:
        """PutObject under a condition, and the truth about it even where it was sent twice.

        When the answer to a first attempt is lost, botocore's second is refused because of the
        first. So each write carries a mark, and a refusal is believed only if the mark differs.
        """
        mark = uuid4().hex
        try:
            answer = self._patient(
                self._s3.put_object,
                Bucket=self._bucket,
                Key=self._key(name),
                Body=record,
                Metadata={_MARK: mark},
                **condition,
            )
            return _opened(answer["ETag"])
        except ClientError as error:
            if _status(error) == _PRECONDITION_FAILED and (etag := self._marked(name, mark)):
                return etag
            raise

    def _marked(self, name: IndexName, mark: str) -> str | None:
        try:
            found = self._s3.head_object(Bucket=self._bucket, Key=self._key(name))
        except ClientError as error:
            if _status(error) == _NOT_FOUND:
                return None
            raise  # nobody knows whose it is
        return _opened(found["ETag"]) if found["Metadata"].get(_MARK) == mark else None

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"The store s3://{self._bucket} ({self._s3.meta.endpoint_url})")


_PATIENT: Final = tenacity.Retrying(
    # S3 answers so when two conditional writes of one key cross; botocore doesn't retry it.
    retry=tenacity.retry_if_exception(
        lambda e: isinstance(e, ClientError) and _status(e) == CONFLICT
    ),
    wait=tenacity.wait_random_exponential(multiplier=0.05, max=1),
    stop=tenacity.stop_after_attempt(5),
    reraise=True,
)


def _opened(etag: str) -> str:
    """S3 quotes its etags, as HTTP does; ours goes through shells and JSON."""
    return etag.strip('"')


def _quoted(etag: str) -> str:
    return f'"{etag}"'
