"""The contenders of the S3 benchmarks: a kekd on a bucket, and boto3 in threads."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

import boto3
from botocore.config import Config

import kekd
from bench import daemon, load
from bench.keystore import blob_of, envelope_of, name_of
from bench.process import Server
from bench.s3_stub import BUCKET, key_of
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_schema import encode
from kekd_server.listeners.engine import EngineName

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

IN_FLIGHT: Final = 32
REGION: Final = "us-east-1"
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
_CREATE: Final = "/kekd.v1.EnvelopeService/CreateEnvelope"


class Contender(Protocol):
    name: str

    def cpu_seconds(self) -> float:
        """Returns the CPU time of the process that sends the requests to S3."""

    def get(self, number: int) -> None:
        """Gets one envelope."""

    def gets(self, numbers: Sequence[int]) -> None:
        """Gets envelopes with `IN_FLIGHT` requests at once."""

    def creates(self, numbers: Sequence[int]) -> None:
        """Creates envelopes, unless they exist, with `IN_FLIGHT` requests at once."""

    def names(self) -> int:
        """Lists the names of all envelopes and returns their number."""


class Kekd(AbstractContextManager["Kekd"]):
    """A daemon of this checkout or of another one."""

    def __init__(  # noqa: PLR0913
        self,
        name: str,
        folder: Path,
        s3: Server,
        *,
        checkout: Path | None = None,
        engine: EngineName = "native",
        flags: Sequence[str] = (),
    ) -> None:
        self.name = name
        bucket = ("--s3", BUCKET, "--s3-region", REGION, "--s3-endpoint", f"http://{s3.address}")
        self._stack = ExitStack()
        with ExitStack() as stack:
            self.server = stack.enter_context(
                daemon.on_bucket(folder, (*bucket, *flags), engine=engine, checkout=checkout)
            )
            self.client = stack.enter_context(kekd.Client(self.server.address))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cpu_seconds(self) -> float:
        return self.server.cpu_seconds()

    def get(self, number: int) -> None:
        self.client.get_index_kms(None, name_of(number))

    def gets(self, numbers: Sequence[int]) -> None:
        messages = [load.request_of(number).SerializeToString() for number in numbers]
        asyncio.run(load.send(self.server.address, messages, in_flight=IN_FLIGHT))

    def creates(self, numbers: Sequence[int]) -> None:
        messages = [_create_request(number).SerializeToString() for number in numbers]
        sent = load.send(self.server.address, messages, method=_CREATE, in_flight=IN_FLIGHT)
        asyncio.run(sent)

    def batch(self, numbers: Sequence[int]) -> None:
        """Gets envelopes in one call."""
        names = [name_of(number) for number in numbers]
        found = list(self.client.get_many_index_kms(None, names))
        assert found == [(name_of(number), blob_of(number)) for number in numbers]

    def names(self) -> int:
        return sum(1 for _ in self.client.list_index_kms())

    def scan(self) -> int:
        """Lists all envelopes in full and returns their number."""
        return sum(isinstance(found, kekd.KMSBlob) for _, found in self.client.scan_index_kms())


class Boto3:
    """One client in the threads of this process."""

    name = f"boto3 in {IN_FLIGHT} threads"

    def __init__(self, s3: Server) -> None:
        config = Config(max_pool_connections=IN_FLIGHT)
        self._client: S3Client = boto3.client(
            "s3", endpoint_url=f"http://{s3.address}", region_name=REGION, config=config
        )

    def cpu_seconds(self) -> float:
        return time.process_time()

    def get(self, number: int) -> None:
        self._client.get_object(Bucket=BUCKET, Key=key_of(number))["Body"].read()

    def gets(self, numbers: Sequence[int]) -> None:
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            list(threads.map(self.get, numbers))

    def creates(self, numbers: Sequence[int]) -> None:
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            list(threads.map(self._create, numbers))

    def names(self) -> int:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=key_of(0).rpartition("/")[0]
        )
        return sum(len([found["Key"] for found in page["Contents"]]) for page in pages)

    def _create(self, number: int) -> None:
        record = encode(envelope_of(number))
        self._client.put_object(Bucket=BUCKET, Key=key_of(number), Body=record, IfNoneMatch="*")


def _create_request(number: int) -> pb.CreateEnvelopeRequest:
    envelope = envelope_of(number)
    blob = pb.KMSBlob(
        kms_name=envelope.kms_name,
        provider=envelope.provider,
        key_id=envelope.key_id,
        region=envelope.region,
        wrapped_kek=envelope.wrapped_kek,
        version=envelope.version,
        created_at=envelope.created_at,
    )
    return pb.CreateEnvelopeRequest(index_name=name_of(number), blob=blob)
