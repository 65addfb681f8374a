"""The S3 driver trusts no response that arrives damaged, partly or too slowly."""

import base64
import hashlib
import zlib
from typing import Literal

import pytest

from kekd_server.model.errors import StoreUnavailableError
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.http import connector, exchange_reaper
from tests.contract.driver_contract import ALL, NAME
from tests.contract.s3_operations import RECORD
from tests.contract.scripted_s3 import Response, ScriptedS3, listing, stored
from tests.patience import eventually

WAYS: list[Literal["close", "reset", "stall"]] = ["close", "reset", "stall"]


@pytest.mark.parametrize("missing", [1, len(RECORD)])
@pytest.mark.parametrize("ending", WAYS)
def test_record_that_arrives_partly_is_requested_again(
    driver: S3Driver,
    scripted_s3: ScriptedS3,
    monkeypatch: pytest.MonkeyPatch,
    missing: int,
    ending: Literal["close", "reset", "stall"],
) -> None:
    if ending == "stall":
        monkeypatch.setattr(connector, "_READ_TIMEOUT", 3.0)
    whole = stored(RECORD)
    scripted_s3.play(whole.cut(missing, ending), whole)
    assert driver.get(NAME).record == RECORD
    scripted_s3.play(whole.cut(missing, ending))
    why = "timed out" if ending == "stall" else ""
    with pytest.raises(StoreUnavailableError, match=f"sent no whole response: {why}"):
        driver.get(NAME)
    eventually(lambda: len(scripted_s3.requests) == 2)


@pytest.mark.parametrize(
    ("algorithm", "checksum"),
    [
        ("crc32", zlib.crc32(RECORD).to_bytes(4)),
        ("sha1", hashlib.sha1(RECORD).digest()),
        ("sha256", hashlib.sha256(RECORD).digest()),
    ],
)
def test_record_that_does_not_match_its_checksum_is_requested_again(
    driver: S3Driver, scripted_s3: ScriptedS3, algorithm: str, checksum: bytes
) -> None:
    announced = {f"x-amz-checksum-{algorithm}": base64.b64encode(checksum).decode()}
    damaged = stored(RECORD.replace(b"a", b"b"), **announced)
    scripted_s3.play(damaged, stored(RECORD, **announced))
    assert driver.get(NAME).record == RECORD
    scripted_s3.play(damaged)
    with pytest.raises(StoreUnavailableError, match="does not match its checksum"):
        driver.get(NAME)


def test_record_without_an_announced_length_is_not_trusted(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    content = stored(RECORD).content.replace(b"content-length: 8\r\n", b"")
    scripted_s3.play(Response(content, "close"))
    with pytest.raises(StoreUnavailableError, match="did not announce the length"):
        driver.get(NAME)


def test_response_that_arrives_too_slowly_is_given_up(
    driver: S3Driver, scripted_s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then would keep the timeout of the socket from ever ending the exchange."""
    monkeypatch.setattr(exchange_reaper, "EXCHANGE_TIMEOUT", 0.3)
    monkeypatch.setattr(exchange_reaper, "_INTERVAL", 0.05)
    head, _, _ = stored(RECORD).content.partition(b"\r\n\r\n")
    scripted_s3.play(Response(head + b"\r\nx-slow: ", "drip"))
    with pytest.raises(StoreUnavailableError, match="sent no whole response") as caught:
        driver.get(NAME)
    assert "invalid HTTP" not in str(caught.value), "the client gave up because of the length"


def test_listing_that_arrives_partly_is_requested_again(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    page = listing(f"_catalog/config/{NAME.key}")
    scripted_s3.play(page.cut(20, "close"), page)
    assert driver.list(ALL, None, 10, listing="l") == [NAME]
