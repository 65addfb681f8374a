"""The S3 driver handles credentials that are renewed, late, unreadable or refused."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from botocore.tokens import SSOTokenProvider

from kekd_common import aws_credentials
from kekd_server.model.errors import (
    EnvelopeNotFoundError,
    KekdError,
    StoreMisconfiguredError,
    StoreUnavailableError,
)
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import make_client
from kekd_server.storage.s3.driver import S3Driver
from tests.contract.driver_contract import NAME
from tests.contract.s3_operations import RECORD, each_operation
from tests.contract.scripted_s3 import ScriptedS3, stored
from tests.fixtures.credentials import CredentialEndpoint, PickyS3, write_credentials
from tests.fixtures.s3 import REGION, make_bucket
from tests.fixtures.writes import create, put


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_credentials, "RENEWAL_INTERVAL", 0.0)


@pytest.fixture
def make_driver(picky_s3: PickyS3, s3_endpoint: str) -> Callable[[], S3Driver]:
    """Makes drivers for a new bucket behind the picky server."""
    bucket = make_bucket(s3_endpoint)
    location = S3Location(bucket.name, "", REGION, picky_s3.endpoint)
    bucket.s3.put_object(Bucket=bucket.name, Key="_kekd/keystore")

    def make() -> S3Driver:
        return S3Driver(make_client(location), location)

    return make


MakeDriver = Callable[[], S3Driver]


@each_operation
def test_credentials_that_expired_early_are_renewed_within_the_call(
    make_driver: MakeDriver,
    picky_s3: PickyS3,
    credential_endpoint: CredentialEndpoint,
    operate: Callable[[S3Driver], object],
) -> None:
    driver = make_driver()
    driver.check()
    credential_endpoint.access_key = picky_s3.accepted = "second"
    with suppress(EnvelopeNotFoundError):
        operate(driver)
    assert picky_s3.refused == 1
    put(driver, NAME, RECORD, if_etag=None)
    assert driver.get(NAME).record == RECORD
    assert picky_s3.refused == 1


def test_credentials_in_a_file_are_read_again(
    make_driver: MakeDriver, picky_s3: PickyS3, no_credentials: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_credentials(tmp_path, "first")
    driver = make_driver()
    driver.check()
    picky_s3.accepted = "second"
    with pytest.raises(StoreMisconfiguredError, match=r"responded with ExpiredToken .*; renew"):
        driver.check()
    assert picky_s3.refused == 2  # the second try used the current file
    write_credentials(tmp_path, "second")
    driver.check()


def test_credentials_are_renewed_at_most_once_in_an_interval(
    make_driver: MakeDriver,
    picky_s3: PickyS3,
    no_credentials: pytest.MonkeyPatch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_credentials(tmp_path, "first")
    monkeypatch.setattr(aws_credentials, "RENEWAL_INTERVAL", 3600.0)
    driver = make_driver()
    picky_s3.accepted = "second"
    for refused in (1, 2, 3):
        with pytest.raises(StoreMisconfiguredError):
            driver.check()
        assert picky_s3.refused == refused


def test_credentials_that_are_added_later_are_found(
    make_driver: MakeDriver, no_credentials: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = make_driver()
    with pytest.raises(StoreMisconfiguredError, match="Unable to locate credentials"):
        driver.get(NAME)
    write_credentials(tmp_path, "first")
    create(driver, NAME, RECORD)


def test_credential_service_that_is_down_is_a_transient_error(
    make_driver: MakeDriver, credential_endpoint: CredentialEndpoint
) -> None:
    credential_endpoint.is_down = True
    driver = make_driver()
    with pytest.raises(StoreUnavailableError, match="container-role") as caught:
        driver.check()
    assert "500" in str(caught.value)
    credential_endpoint.is_down = False
    driver.check()


@pytest.fixture
def web_identity(aws_endpoint: str, no_credentials: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The path of a token for STS; a test writes it."""
    token = tmp_path / "token"
    no_credentials.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    no_credentials.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/kekd")
    no_credentials.setenv("AWS_ENDPOINT_URL_STS", aws_endpoint)
    return token


def test_web_identity_token_that_cannot_be_read_is_named_and_read_later(
    make_driver: MakeDriver, picky_s3: PickyS3, web_identity: Path
) -> None:
    driver = make_driver()
    with pytest.raises(StoreMisconfiguredError) as caught:
        driver.check()
    assert str(web_identity) in str(caught.value)
    assert "No such file or directory" in str(caught.value)
    assert "check that it exists and is readable" in str(caught.value)
    web_identity.write_text("token")
    with pytest.raises(StoreMisconfiguredError, match="ExpiredToken"):
        driver.check()  # with the credentials of STS, which the picky server refuses


SSO = """
sso_session = session
sso_account_id = 123456789012
sso_role_name = kekd

[sso-session session]
sso_region = us-east-1
sso_start_url = https://127.0.0.1:1/start
"""


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ("credential_process = sh -c 'echo out of paper >&2; exit 3'", "out of paper"),
        ("credential_process = echo 1: not JSON", "invalid output of credential_process"),
        (SSO, "Token has expired and refresh failed"),
    ],
    ids=["failing process", "no JSON", "SSO"],
)
def test_failing_credential_source_is_reported_with_botocores_text(
    make_driver: MakeDriver,
    picky_s3: PickyS3,
    no_credentials: pytest.MonkeyPatch,
    tmp_path: Path,
    profile: str,
    sentence: str,
) -> None:
    (tmp_path / "config").write_text(f"[profile chosen]\n{profile}\n")
    token = json.dumps({"accessToken": "canary", "expiresAt": "2020-01-01T00:00:00Z"})
    (tmp_path / f"{hashlib.sha1(b'session').hexdigest()}.json").write_text(token)
    no_credentials.setattr(SSOTokenProvider, "_SSO_TOKEN_CACHE_DIR", str(tmp_path))
    no_credentials.setenv("AWS_PROFILE", "chosen")
    driver = make_driver()
    with pytest.raises((StoreMisconfiguredError, StoreUnavailableError)) as caught:
        driver.check()
    assert sentence in str(caught.value)
    assert picky_s3.endpoint in str(caught.value)


def test_credentials_that_no_header_can_have_are_not_shown(
    driver: S3Driver, scripted_s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary\n")
    scripted_s3.play(stored(RECORD))
    with pytest.raises(StoreMisconfiguredError, match="invalid character") as caught:
        driver.get(NAME)
    assert "canary" not in str(caught.value)
    assert not scripted_s3.requests


def test_missing_profile_is_named(no_credentials: pytest.MonkeyPatch) -> None:
    no_credentials.setenv("AWS_PROFILE", "nowhere")
    with pytest.raises(
        StoreMisconfiguredError, match=r"The config profile \(nowhere\) could not be"
    ):
        make_client(S3Location("bucket", "", REGION))


def test_unknown_ca_is_reported_with_the_setting_for_it(
    private_https: str, aws_credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    location = S3Location("bucket", "", REGION, private_https)
    with pytest.raises(StoreMisconfiguredError, match="AWS_CA_BUNDLE") as caught:
        S3Driver(make_client(location), location).check()
    assert private_https in str(caught.value)


def test_error_of_s3_names_the_endpoint(picky_s3: PickyS3, aws_credentials: dict[str, str]) -> None:
    picky_s3.accepted = "test"
    location = S3Location("no-such-bucket", "", REGION, picky_s3.endpoint)
    driver = S3Driver(make_client(location), location)
    with pytest.raises(KekdError) as caught:
        driver.get(NAME)
    assert "NoSuchBucket" in str(caught.value)
    assert picky_s3.endpoint in str(caught.value)
