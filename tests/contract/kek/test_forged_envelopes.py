"""Envelopes that name keys that their slot doesn't allow."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import kekd
from kekd.kek import Registry, Slot
from kekd.kek.aws import session
from kekd.kek.errors import KekError, KeyNotAllowedError
from tests.contract.kek.relay import Relay
from tests.fixtures.kms import Aws
from tests.fixtures.s3 import REGION

ACCOUNT = "123456789012"
OUR_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd"
OUR_SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:prod/*"
FOREIGN_KEY = f"arn:aws:kms:{REGION}:666655554444:key/evil"
ROLE = "arn:aws:iam::222233334444:role/kekd"


@pytest.fixture
def relay(aws: Aws) -> Iterator[Relay]:
    with Relay(aws.endpoint) as relay:
        yield relay


def kms_slot(relay: Relay, *allowed: str, **more: Any) -> Slot:
    slot: dict[str, Any] = {"region": REGION, "endpoint_url": relay.endpoint} | more
    return Slot("prod", "aws-kms", "alias/prod", allowed_key_arns=allowed, **slot)


def secret_slot(relay: Relay, *allowed: str) -> Slot:
    where: dict[str, Any] = {"region": REGION, "endpoint_url": relay.endpoint}
    return Slot("prod", "aws", "prod/wrap-key", allowed_key_arns=allowed, **where)


def forged(provider: str, key_id: str, region: str = REGION, **more: Any) -> kekd.KMSBlob:
    return kekd.KMSBlob("prod", provider, key_id, region, bytes(60), **more)


def refused_unasked(relay: Relay, slot: Slot, envelope: kekd.KMSBlob) -> KekError:
    with pytest.raises(KeyNotAllowedError) as caught:
        Registry({"prod": slot}, timeout=1).unwrap("i", envelope)
    assert relay.requests == []
    assert relay.roles == []
    return caught.value


@pytest.mark.parametrize(
    "envelope",
    [
        forged("aws-kms", FOREIGN_KEY),
        forged("aws-kms", f"arn:aws:kms:{REGION}:666655554444:alias/evil"),
        forged("aws-kms", "evil"),
        forged("aws-kms", f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1234abcd", "eu-west-1"),
        forged("aws-kms", "alias/prod", "eu-west-1"),
        forged("aws-kms", "alias/prod", key_arn=FOREIGN_KEY),
        forged("aws-kms", FOREIGN_KEY, key_arn=OUR_KEY),
        forged("aws", "prod/wrap-key"),
        forged("aws", f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:evil-AbCdEf"),
    ],
)
def test_forbidden_key_makes_no_request(relay: Relay, envelope: kekd.KMSBlob) -> None:
    error = refused_unasked(relay, kms_slot(relay, OUR_KEY, role_arn=ROLE), envelope)
    assert (error.index_name, error.slot) == ("i", "prod")


@pytest.mark.parametrize(
    "key_id",
    [
        "evil",
        "prod",
        f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:evil-AbCdEf",
        f"arn:aws:secretsmanager:{REGION}:666655554444:secret:prod/evil-AbCdEf",
    ],
)
def test_forbidden_secret_makes_no_request(relay: Relay, key_id: str) -> None:
    refused_unasked(relay, secret_slot(relay, OUR_SECRET), forged("aws", key_id))


def test_envelope_of_another_provider_makes_no_request(relay: Relay) -> None:
    error = refused_unasked(relay, kms_slot(relay), forged("aws", "prod/wrap-key"))
    assert "'aws'" in str(error)
    refused_unasked(relay, secret_slot(relay), forged("aws-kms", OUR_KEY))


def test_envelope_of_another_provider_with_an_allowed_key_unwraps(aws: Aws) -> None:
    """Allows moving a slot from one provider to the other."""
    secret = aws.new_secret()
    made_by = Registry({"prod": aws.slot("prod", "aws", secret)})
    wrapped = made_by._providers.for_slot(made_by.slots["prod"]).wrap(bytes(32), None)
    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{secret}-??????"
    moved = aws.slot("prod", "aws-kms", aws.new_key(), allowed_key_arns=(arn, OUR_KEY))
    envelope = kekd.KMSBlob("prod", "aws", secret, REGION, wrapped.wrapped_kek)
    assert Registry({"prod": moved}).unwrap("i", envelope) == bytes(32)


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "arn:aws:kms:*",
        f"arn:aws:kms:*:{ACCOUNT}:key/*",
        f"arn:*:kms:{REGION}:{ACCOUNT}:key/*",
        f"arn:aws:kms:{REGION}:*:key/????????-*",
    ],
)
@pytest.mark.parametrize("named", ["alias", "alias ARN", "id"])
def test_key_of_unknown_arn_is_checked_after_the_request(
    aws: Aws, pattern: str, named: str
) -> None:
    key_arn = aws.new_key()
    alias = aws.new_alias(key_arn)
    key_id = {
        "alias": alias,
        "alias ARN": f"arn:aws:kms:{REGION}:{ACCOUNT}:{alias}",
        "id": key_arn.rpartition("/")[2],
    }[named]
    wrapped = aws.kms.encrypt(KeyId=key_arn, Plaintext=bytes(32))["CiphertextBlob"]
    slot = aws.slot("prod", "aws-kms", key_id, allowed_key_arns=(pattern,))
    envelope = kekd.KMSBlob("prod", "aws-kms", key_id, REGION, wrapped)
    assert Registry({"prod": slot}).unwrap("i", envelope) == bytes(32)


def test_forged_regions_create_few_clients(
    relay: Relay, aws_credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []
    connect = session.connect

    def counted(service: str, slot: Slot, timeout: float) -> Any:
        client = connect(service, slot, timeout)
        made.append(weakref.ref(client))
        return client

    monkeypatch.setattr(session, "connect", counted)
    registry = Registry({"prod": kms_slot(relay)}, timeout=0.001)
    for number in range(12):
        with pytest.raises(KekError):
            registry.unwrap("i", forged("aws-kms", "alias/prod", f"eu-west-{number}"))
    gc.collect()
    assert len(made) == 12
    assert len([client for client in made if client()]) <= 4


def test_forged_regions_evict_no_client_of_a_slot(
    relay: Relay, aws_credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry({"prod": kms_slot(relay)}, timeout=0.001)
    ours = registry._providers.for_slot(registry.slots["prod"])
    for number in range(8):
        with pytest.raises(KekError):
            registry.unwrap("i", forged("aws-kms", "alias/prod", f"eu-west-{number}"))
    assert registry._providers.for_slot(registry.slots["prod"]) is ours


def test_forged_key_ids_share_a_client_and_are_evicted(
    relay: Relay, aws_credentials: dict[str, str]
) -> None:
    registry = Registry({"prod": kms_slot(relay)})
    slots = [
        Slot("prod", "aws-kms", f"alias/{number}", REGION, endpoint_url=relay.endpoint)
        for number in range(300)
    ]
    made = [weakref.ref(registry._providers.for_slot(slot)) for slot in slots]
    gc.collect()
    alive = [provider for provider in (reference() for reference in made) if provider is not None]
    assert len(alive) <= 16
    assert len({id(getattr(provider, "_client")) for provider in alive}) == 1  # noqa: B009


def test_each_slot_without_a_region_keeps_its_client(
    relay: Relay, aws_credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their envelopes name the region."""
    made: list[str] = []
    connect = session.connect

    def counted(service: str, slot: Slot, timeout: float) -> Any:
        made.append(slot.name)
        return connect(service, slot, timeout)

    monkeypatch.setattr(session, "connect", counted)
    names = [f"tenant-{number}" for number in range(10)]
    slots = {
        name: Slot(name, "aws-kms", "alias/a", "", ROLE, endpoint_url=relay.endpoint)
        for name in names
    }
    registry = Registry(slots, timeout=0.001)
    for name in names * 3:
        with pytest.raises(KekError):
            registry.unwrap("i", kekd.KMSBlob(name, "aws-kms", "alias/a", REGION, b"1"))
    assert sorted(made) == names
