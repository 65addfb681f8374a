"""S3 servers below a path, and servers that find the bucket in the host name."""

import socket
from typing import Any

import pytest

from kekd_server.storage.location import AddressingStyle, S3Location
from kekd_server.storage.s3.client import make_client
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.endpoint import resolve
from tests.contract.driver_contract import ALL, NAME
from tests.fixtures.forgetful_s3 import StartForgetful
from tests.fixtures.s3 import REGION, Bucket

RECORD = b"record"


def use(driver: S3Driver, bucket: Bucket, prefix: str) -> None:
    """Does each operation once, and checks which paths it used."""
    assert driver.open(create=True)
    driver.check()
    etag = driver.create(NAME, RECORD)
    assert driver.get(NAME).record == RECORD
    key = f"{prefix}/_catalog/config/{NAME.key}"
    assert bucket.s3.get_object(Bucket=bucket.name, Key=key)["Body"].read() == RECORD
    assert driver.list(ALL, None, 10, listing="l") == [NAME]
    driver.put(NAME, RECORD, if_etag=etag)
    assert driver.delete(NAME, if_etag=None)


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The host names that were resolved. Those below localhost are this machine (RFC 6761)."""
    looked_up: list[str] = []
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **more: Any) -> Any:
        looked_up.append(host)
        return resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return looked_up


def test_endpoint_can_have_a_path(bucket: Bucket, start_forgetful: StartForgetful) -> None:
    gateway = start_forgetful(bucket.endpoint, path="/gateway/s3")
    location = S3Location(bucket.name, "some/prefix", REGION, f"{gateway.endpoint}/")
    use(S3Driver(make_client(location), location), bucket, "some/prefix")


def test_bucket_can_be_named_in_the_host(bucket: Bucket, hosts: list[str]) -> None:
    endpoint = bucket.endpoint.replace("127.0.0.1", "localhost")
    location = S3Location(bucket.name, "some/prefix", REGION, endpoint, "virtual")
    use(S3Driver(make_client(location), location), bucket, "some/prefix")
    assert f"{bucket.name}.localhost" in hosts
    assert "localhost" not in hosts


def test_bucket_can_be_named_in_the_host_of_an_endpoint_with_a_path(
    bucket: Bucket, start_forgetful: StartForgetful, hosts: list[str]
) -> None:
    gateway = start_forgetful(bucket.endpoint, path="/gateway/s3")
    endpoint = gateway.endpoint.replace("127.0.0.1", "localhost")
    location = S3Location(bucket.name, "some/prefix", REGION, endpoint, "virtual")
    use(S3Driver(make_client(location), location), bucket, "some/prefix")
    assert f"{bucket.name}.localhost" in hosts
    assert "localhost" not in hosts


@pytest.mark.parametrize(
    ("endpoint", "style", "url"),
    [
        (None, "auto", "https://kekd-test.s3.eu-west-1.amazonaws.com/k"),
        (None, "virtual", "https://kekd-test.s3.eu-west-1.amazonaws.com/k"),
        (None, "path", "https://s3.eu-west-1.amazonaws.com/kekd-test/k"),
        ("https://s3.example", "auto", "https://s3.example/kekd-test/k"),
        ("https://s3.example", "path", "https://s3.example/kekd-test/k"),
        ("https://s3.example", "virtual", "https://kekd-test.s3.example/k"),
        ("https://s3.example/base", "auto", "https://s3.example/base/kekd-test/k"),
    ],
)
def test_style_decides_where_the_bucket_is_named(
    aws_credentials: dict[str, str], endpoint: str | None, style: AddressingStyle, url: str
) -> None:
    resolved = resolve(S3Location("kekd-test", "", "eu-west-1", endpoint, style))
    assert f"{resolved.url}{resolved.path}/k" == url
