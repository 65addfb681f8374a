"""S3 servers below a path, and servers that find the bucket in the host name."""

import socket
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from kekd_server.model.errors import StoreMisconfiguredError
from kekd_server.storage.location import AddressingStyle, S3Location
from kekd_server.storage.s3.client import make_client
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.http.endpoint import resolve
from tests.contract.driver_contract import ALL, NAME
from tests.fixtures.forgetful_s3 import StartForgetful
from tests.fixtures.s3 import REGION, Bucket
from tests.fixtures.writes import create, delete, put

RECORD = b"record"


def use(driver: S3Driver, bucket: Bucket, prefix: str) -> None:
    """Does each operation once, and checks which paths it used."""
    assert driver.open(create=True)
    driver.check()
    etag = create(driver, NAME, RECORD)
    assert driver.get(NAME).record == RECORD
    key = f"{prefix}/_catalog/config/{NAME.key}"
    assert bucket.s3.get_object(Bucket=bucket.name, Key=key)["Body"].read() == RECORD
    assert driver.list(ALL, None, 10, listing="l") == [NAME]
    put(driver, NAME, RECORD, if_etag=etag)
    assert delete(driver, NAME, if_etag=None)


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


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://[::1]:9000",
        "http://[::1]:80",
        "https://[2001:DB8::1]",
        "https://[2001:db8::1]:9000",
        "https://s3.example:443",
    ],
)
def test_host_header_is_the_one_that_botocore_signs(
    aws_credentials: dict[str, str], endpoint: str
) -> None:
    request = AWSRequest("GET", endpoint)
    signed: Any = S3SigV4Auth(Credentials("id", "secret"), "s3", REGION)
    host = signed.headers_to_sign(request)["host"]
    assert resolve(S3Location("kekd-test", "", REGION, endpoint)).authority == host


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "No such file or directory"),
        ("no certificate", "it contains no valid certificates in PEM format"),
    ],
)
def test_unusable_ca_file_is_named_with_its_variable(
    aws_credentials: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: str | None,
    cause: str,
) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(file))
    with pytest.raises(StoreMisconfiguredError) as caught:
        resolve(S3Location("kekd-test", "", REGION))
    assert f"cannot read the CA file {file}: {cause}; correct AWS_CA_BUNDLE" in str(caught.value)
