"""The S3 driver keeps its connections, and goes through a proxy."""

import pytest

from kekd_server.model.errors import EnvelopeNotFoundError, StoreUnavailableError
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import make_client
from kekd_server.storage.s3.driver import S3Driver
from tests.contract.driver_contract import NAME
from tests.contract.s3_operations import RECORD
from tests.contract.scripted_s3 import BUCKET, MISSING, ScriptedS3, http, stored
from tests.fixtures.s3 import REGION


def test_connection_that_the_server_closed_is_not_used_again(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    whole = stored(RECORD)
    scripted_s3.play(whole._replace(ending="close"))
    for _ in range(3):
        assert driver.get(NAME).record == RECORD
    assert len(scripted_s3.requests) == scripted_s3.connections == 3


def test_connection_is_kept(driver: S3Driver, scripted_s3: ScriptedS3) -> None:
    scripted_s3.play(stored(RECORD), MISSING, stored(RECORD))
    driver.get(NAME)
    with pytest.raises(EnvelopeNotFoundError):
        driver.get(NAME)
    driver.get(NAME)
    assert scripted_s3.connections == 1


def test_request_through_a_proxy_names_the_whole_url(
    scripted_s3: ScriptedS3, aws_credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", scripted_s3.endpoint)
    scripted_s3.play(stored(RECORD))
    location = S3Location(BUCKET, "", REGION, "http://s3.example:9000")
    S3Driver(make_client(location), location).get(NAME)
    key = f"_catalog/config/{NAME.key}"
    assert scripted_s3.requests == [f"GET http://s3.example:9000/{BUCKET}/{key}"]


def test_request_over_tls_through_a_proxy_opens_a_tunnel(
    scripted_s3: ScriptedS3, aws_credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", scripted_s3.endpoint.replace("//", "//user:word@"))
    scripted_s3.play(http("407 Proxy Authentication Required")._replace(ending="close"))
    location = S3Location(BUCKET, "", REGION, "https://s3.example")
    with pytest.raises(StoreUnavailableError, match="407") as caught:
        S3Driver(make_client(location), location).get(NAME)
    assert set(scripted_s3.requests) == {"CONNECT s3.example:443"}
    assert "word" not in str(caught.value)


def test_no_proxy_is_honoured(
    driver: S3Driver, scripted_s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    scripted_s3.play(stored(RECORD))
    location = S3Location(BUCKET, "", REGION, scripted_s3.endpoint)
    assert S3Driver(make_client(location), location).get(NAME).record == RECORD
