"""Keys in another account: moto's STS, which separates accounts, behind a relay."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from kekd.kek import Slot, WrappedKek
from kekd.kek.aws import session
from kekd.kek.aws.kms import AwsKms
from kekd.kek.aws.secrets import AwsSecrets
from kekd.kek.errors import (
    AccessDeniedError,
    ExpiredCredentialsError,
    KekError,
    KeyNotFoundError,
    SecretNotFoundError,
)
from tests.contract.kek.relay import HOUR, MINUTE, Relay
from tests.fixtures.kms import Aws
from tests.fixtures.s3 import REGION
from tests.patience import PATIENCE

KEK = bytes(range(32))
ROLE = "arn:aws:iam::222233334444:role/kekd"
REFUSED = (
    b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
)


@pytest.fixture
def relay(aws: Aws) -> Iterator[Relay]:
    with Relay(aws.endpoint) as relay:
        yield relay


@pytest.fixture
def role_account(aws: Aws) -> Aws:
    """The account of the role."""
    sts: Any = boto3.client("sts", endpoint_url=aws.endpoint, region_name=REGION)
    credentials = sts.assume_role(RoleArn=ROLE, RoleSessionName="owner")["Credentials"]
    session = boto3.Session(
        credentials["AccessKeyId"],
        credentials["SecretAccessKey"],
        credentials["SessionToken"],
        REGION,
    )
    return Aws(
        aws.endpoint,
        session.client("kms", endpoint_url=aws.endpoint),
        session.client("secretsmanager", endpoint_url=aws.endpoint),
    )


@pytest.fixture
def key_arn(role_account: Aws) -> str:
    return role_account.new_key()


def slot(relay: Relay, key_id: str, **more: Any) -> Slot:
    return Slot(
        "customer",
        "aws-kms",
        key_id,
        REGION,
        **{"role_arn": ROLE} | more,
        endpoint_url=relay.endpoint,
    )


@pytest.fixture
def kms(relay: Relay, key_arn: str, monkeypatch: pytest.MonkeyPatch) -> AwsKms:
    """Waits for each response, however late, because a second attempt would count as a request."""
    monkeypatch.setattr(session, "_CONNECT_TIMEOUT", PATIENCE)
    monkeypatch.setattr(session, "_READ_TIMEOUT", PATIENCE)
    return AwsKms(slot(relay, key_arn), timeout=PATIENCE)


def test_only_the_role_can_use_the_key(aws: Aws, kms: AwsKms, key_arn: str) -> None:
    assert ":222233334444:" in key_arn
    assert kms.unwrap(kms.wrap(KEK, None), None) == KEK
    with pytest.raises(KeyNotFoundError):
        AwsKms(aws.slot("prod", "aws-kms", key_arn), timeout=5, client=aws.kms).wrap(KEK, None)


def test_only_the_role_can_read_the_secret(aws: Aws, role_account: Aws, relay: Relay) -> None:
    name = f"other-{role_account.new_secret()}"
    role_account.secrets.create_secret(Name=name, SecretBinary=bytes(32))
    secrets = AwsSecrets(slot(relay, name), timeout=5)
    assert secrets.unwrap(secrets.wrap(KEK, None), None) == KEK
    with pytest.raises(SecretNotFoundError):
        AwsSecrets(aws.slot("prod", "aws", name), timeout=5, client=aws.secrets).wrap(KEK, None)


@pytest.mark.parametrize(
    ("name", "written", "session_name"),
    [
        ("customer", "", "kekd-customer"),
        ("customer", "billing@example.com", "billing@example.com"),
        ("Kunde Müller/1", "", "kekd-Kunde-M-ller-1"),
        ("x" * 100, "", "kekd-" + "x" * 59),
    ],
)
def test_session_name_is_sent_to_sts(
    relay: Relay, key_arn: str, name: str, written: str, session_name: str
) -> None:
    customer = Slot(
        name, "aws-kms", key_arn, REGION, ROLE, "", written, endpoint_url=relay.endpoint
    )
    AwsKms(customer, timeout=5).wrap(KEK, None)
    (asked,) = relay.roles
    assert asked["RoleArn"] == ROLE
    assert asked["RoleSessionName"] == session_name
    assert "ExternalId" not in asked


def test_external_id_is_sent_to_sts(relay: Relay, key_arn: str) -> None:
    AwsKms(slot(relay, key_arn, external_id="4d6f-77"), timeout=5).wrap(KEK, None)
    (asked,) = relay.roles
    assert asked["ExternalId"] == "4d6f-77"


def test_role_is_assumed_on_the_first_request(relay: Relay, kms: AwsKms) -> None:
    assert relay.roles == []
    kms.wrap(KEK, None)
    kms.wrap(KEK, None)
    assert len(relay.roles) == 1


def in_threads(number: int, kms: AwsKms, wrapped: WrappedKek) -> None:
    """Unwraps it in several threads at once."""
    start = threading.Barrier(number)

    def unwrap() -> bytearray:
        start.wait()
        return kms.unwrap(wrapped, None)

    with ThreadPoolExecutor(number) as threads:
        results = [threads.submit(unwrap) for _ in range(number)]
        assert [result.result() for result in results] == [KEK] * number


def test_concurrent_first_requests_assume_the_role_once(
    relay: Relay, kms: AwsKms, role_account: Aws, key_arn: str
) -> None:
    sealed = role_account.kms.encrypt(KeyId=key_arn, Plaintext=KEK)["CiphertextBlob"]
    in_threads(20, kms, WrappedKek(sealed))
    assert len(relay.roles) == 1
    assert len(relay.requests) == 20


@pytest.mark.parametrize("left", [5 * MINUTE, 12 * MINUTE])
def test_credentials_are_renewed_once_before_they_expire(
    relay: Relay, kms: AwsKms, left: float
) -> None:
    relay.lifetime = left
    wrapped = kms.wrap(KEK, None)
    relay.lifetime = HOUR
    in_threads(20, kms, wrapped)
    in_threads(20, kms, wrapped)
    assert len(relay.roles) == 2
    assert len(set(relay.requests)) == 2
    assert relay.requests[-1] != relay.requests[0]


def test_valid_credentials_are_not_renewed(relay: Relay, kms: AwsKms) -> None:
    relay.lifetime = 20 * MINUTE
    wrapped = kms.wrap(KEK, None)
    in_threads(20, kms, wrapped)
    assert len(relay.roles) == 1


def test_failed_early_renewal_is_ignored(relay: Relay, kms: AwsKms) -> None:
    relay.lifetime = 12 * MINUTE
    wrapped = kms.wrap(KEK, None)
    relay.refusal = REFUSED
    assert kms.unwrap(wrapped, None) == KEK
    assert len(relay.roles) == 2


def test_failed_late_renewal_raises(relay: Relay, kms: AwsKms) -> None:
    relay.lifetime = 2 * MINUTE
    wrapped = kms.wrap(KEK, None)
    relay.refusal = REFUSED
    with pytest.raises(AccessDeniedError):
        kms.unwrap(wrapped, None)


def test_refused_role_error_names_the_slot(relay: Relay, kms: AwsKms) -> None:
    relay.refusal = REFUSED
    with pytest.raises(AccessDeniedError) as caught:
        kms.wrap(KEK, None)
    assert (caught.value.slot, caught.value.code) == ("customer", "AccessDenied")
    assert relay.requests == []


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException"])
def test_expired_own_credentials_raise(relay: Relay, kms: AwsKms, code: str) -> None:
    relay.refusal = REFUSED.replace(b"AccessDenied", code.encode())
    with pytest.raises(ExpiredCredentialsError):
        kms.wrap(KEK, None)


def test_new_but_expired_role_credentials_raise(relay: Relay, kms: AwsKms) -> None:
    """The machine's clock may be far ahead."""
    relay.lifetime = -MINUTE
    with pytest.raises(KekError):
        kms.wrap(KEK, None)


def test_refused_role_is_requested_once_a_call(relay: Relay, kms: AwsKms) -> None:
    relay.refusal = REFUSED
    for _ in range(3):
        with pytest.raises(AccessDeniedError):
            kms.wrap(KEK, None)
    assert len(relay.roles) == 3


def test_each_slot_has_its_own_credentials(relay: Relay, key_arn: str, aws: Aws) -> None:
    others = "arn:aws:iam::555566667777:role/kekd"
    AwsKms(slot(relay, key_arn), timeout=5).wrap(KEK, None)
    with pytest.raises(KeyNotFoundError):
        AwsKms(slot(relay, key_arn, role_arn=others), timeout=5).wrap(KEK, None)
    assert [asked["RoleArn"] for asked in relay.roles] == [ROLE, others]
