"""AWS credentials that are renewed, delayed or unavailable."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import kekd
from kekd.kek import Keyring, Registry, Slot, WrappedKek
from kekd.kek.aws import session
from kekd.kek.aws.kms import AwsKms
from kekd.kek.errors import (
    CredentialsUnavailableError,
    ExpiredCredentialsError,
    ProviderUnavailableError,
)
from kekd_common import aws_credentials
from tests.contract.kek.relay import Relay
from tests.fixtures.credentials import CredentialEndpoint, write_credentials
from tests.fixtures.s3 import REGION
from tests.unit.kek_keyring.fakes import Backend

KEK = bytes(range(32))
ROLE = "arn:aws:iam::123456789012:role/kekd"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_credentials, "RENEWAL_INTERVAL", 0.0)


@pytest.fixture
def relay(aws_endpoint: str) -> Iterator[Relay]:
    with Relay(aws_endpoint) as relay:
        yield relay


@pytest.fixture
def slot(relay: Relay, aws_endpoint: str) -> Slot:
    own: dict[str, Any] = {"aws_access_key_id": "owner", "aws_secret_access_key": "secret"}
    kms = boto3.client("kms", endpoint_url=aws_endpoint, region_name=REGION, **own)
    key_arn = kms.create_key()["KeyMetadata"]["Arn"]
    return Slot("prod", "aws-kms", key_arn, REGION, endpoint_url=relay.endpoint)


def test_revoked_credentials_are_renewed_within_the_request(
    relay: Relay, slot: Slot, credential_endpoint: CredentialEndpoint
) -> None:
    kms = AwsKms(slot, timeout=5)
    wrapped = kms.wrap(KEK, None)
    credential_endpoint.access_key = relay.accepted = "second"
    assert kms.unwrap(wrapped, None) == KEK
    assert (relay.refused, relay.requests) == (1, ["first", "first", "second"])


def test_revoked_role_credentials_are_renewed_within_the_request(
    relay: Relay, slot: Slot, credential_endpoint: CredentialEndpoint
) -> None:
    kms = AwsKms(
        Slot("prod", "aws-kms", slot.key_id, REGION, ROLE, endpoint_url=relay.endpoint), timeout=5
    )
    wrapped = kms.wrap(KEK, None)
    relay.accepted = "none of them"
    with pytest.raises(ExpiredCredentialsError):
        kms.unwrap(wrapped, None)
    relay.accepted = ""
    assert kms.unwrap(wrapped, None) == KEK
    assert len(relay.roles) == 2
    assert relay.requests[1] != relay.requests[2]


def test_changed_credentials_file_is_read_again(
    relay: Relay, slot: Slot, no_credentials: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_credentials(tmp_path, "first")
    kms = AwsKms(slot, timeout=5)
    wrapped = kms.wrap(KEK, None)
    relay.accepted = "second"
    with pytest.raises(ExpiredCredentialsError):
        kms.unwrap(wrapped, None)
    write_credentials(tmp_path, "second")
    assert kms.unwrap(wrapped, None) == KEK


def test_registry_without_credentials_searches_again(
    slot: Slot, no_credentials: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry = Registry({"prod": slot})
    envelope = kekd.KMSBlob("prod", "aws-kms", slot.key_id, REGION, b"wrapped")
    with pytest.raises(CredentialsUnavailableError):
        registry.unwrap("i", envelope)
    write_credentials(tmp_path, "first")
    envelope.wrapped_kek = AwsKms(slot, timeout=5).wrap(KEK, None).wrapped_kek
    assert registry.unwrap("i", envelope) == KEK


@pytest.mark.parametrize("role_arn", ["", ROLE])
def test_keyring_survives_an_outage_of_the_credential_service(
    slot: Slot, credential_endpoint: CredentialEndpoint, role_arn: str
) -> None:
    slot = Slot("prod", "aws-kms", slot.key_id, REGION, role_arn, endpoint_url=slot.endpoint_url)
    registry = Registry({"prod": slot})
    envelope = kekd.KMSBlob("prod", "aws-kms", slot.key_id, REGION)
    envelope.wrapped_kek = registry._providers.for_slot(slot).wrap(KEK, None).wrapped_kek
    backend = Backend()
    backend.get_index_kms = lambda *_: envelope  # type: ignore[method-assign]
    keyring = Keyring(registry, backend.client, ttl=0.001, max_stale=3600)
    assert keyring.kek("i") == KEK
    registry._providers.reset()  # as if its credentials had expired
    credential_endpoint.is_down = True
    with pytest.raises(CredentialsUnavailableError, match="container-role"):
        registry.unwrap("i", envelope)
    for _ in range(5):
        time.sleep(0.001)
        assert keyring.kek("i") == KEK


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ("credential_process = sh -c 'echo out of paper >&2; exit 3'", "out of paper"),
        (f"role_arn = {ROLE}\nweb_identity_token_file = /nowhere/token", "/nowhere/token"),
    ],
    ids=["failing process", "unreadable token"],
)
def test_failing_credential_source_is_reported_with_its_details(
    relay: Relay,
    slot: Slot,
    no_credentials: pytest.MonkeyPatch,
    tmp_path: Path,
    profile: str,
    sentence: str,
) -> None:
    (tmp_path / "config").write_text(f"[profile chosen]\n{profile}\n")
    no_credentials.setenv("AWS_PROFILE", "chosen")
    with pytest.raises(CredentialsUnavailableError) as caught:
        AwsKms(slot, timeout=5).wrap(KEK, None)
    assert sentence in str(caught.value)
    assert relay.endpoint in str(caught.value)


def test_unknown_ca_error_names_the_setting(
    private_https: str, aws_credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    slot = Slot("prod", "aws-kms", "key", REGION, endpoint_url=private_https)
    kms = AwsKms(slot, timeout=0, client=session.connect("kms", slot, 5))
    with pytest.raises(ProviderUnavailableError, match="AWS_CA_BUNDLE") as caught:
        kms.unwrap(WrappedKek(b"1"), None)
    assert private_https in str(caught.value)
    assert "(untrusted certificate: unable to get local issuer certificate);" in str(caught.value)
    assert "_ssl" not in str(caught.value)


def test_endpoint_without_tls_is_reported(relay: Relay, aws_credentials: dict[str, str]) -> None:
    https = relay.endpoint.replace("http:", "https:")
    slot = Slot("prod", "aws-kms", "key", REGION, endpoint_url=https)
    kms = AwsKms(slot, timeout=0, client=session.connect("kms", slot, 5))
    with pytest.raises(ProviderUnavailableError) as caught:
        kms.unwrap(WrappedKek(b"1"), None)
    assert "(the endpoint doesn't use TLS); correct endpoint_url" in str(caught.value)
    assert "SSL]" not in str(caught.value)
