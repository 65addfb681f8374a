"""`Registry.provision` creates and stores KEKs."""

import json
import time
from typing import Any

import pytest

import kekd
from kekd.kek import Registry
from kekd.kek.errors import (
    InvalidKekError,
    InvalidSecretError,
    KekError,
    KekNotAcceptedError,
    KekRequiredError,
    KeyNotFoundError,
    SecretNotFoundError,
    SlotNotFoundError,
)
from tests.fixtures.kms import Aws
from tests.integration.kek.providers import each_bound_slot, each_provider


@each_provider
def test_provision_stores_an_envelope_of_32_random_bytes(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    keks = [registry.provision(name, slot, client=client)[0] for name in ("a", "b")]
    assert [len(kek) for kek in keks] == [32, 32]
    assert keks[0] != keks[1]
    for name, kek in zip(("a", "b"), keks, strict=True):
        assert registry.unwrap(name, client.get_index_kms(None, name)) == kek


@each_provider
def test_provisioned_envelope_has_the_fields_of_the_slot(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    before = int(time.time())
    _, envelope = registry.provision("i", slot, client=client)
    stored = client.get_index_kms(None, "i")
    assert stored == envelope
    assert stored.etag == envelope.etag
    its = registry.slots[slot]
    assert (stored.kms_name, stored.provider) == (slot, slot)
    assert (stored.key_id, stored.region) == (its.key_id, its.region)
    assert (stored.version, stored.binding) == (1, "")
    assert before <= stored.created_at <= time.time()


def test_provision_with_an_alias_records_its_key_arn(
    aws: Aws, registry: Registry, client: kekd.Client
) -> None:
    key_arn = aws.new_key()
    alias = aws.new_alias(key_arn)
    registry.slots["aliased"] = aws.slot("aliased", "aws-kms", alias)
    kek, envelope = registry.provision("i", "aliased", client=client)
    assert (envelope.key_id, envelope.key_arn) == (alias, key_arn)
    aws.kms.update_alias(AliasName=alias, TargetKeyId=aws.new_key())
    assert registry.unwrap("i", envelope) == kek


@each_bound_slot
def test_provision_with_an_encryption_context_records_it(
    registry: Registry, client: kekd.Client, memory: kekd.StorageConfig, slot: str
) -> None:
    for store in (None, memory):
        kek, envelope = registry.provision("i", slot, client=client, config_location=store)
        stored = client.get_index_kms(store, "i")
        assert json.loads(stored.binding) == {"index_name": "i", "store": stored.store}
        assert registry.unwrap("i", stored) == kek
        assert envelope == stored


@each_provider
def test_provision_of_an_existing_index_raises_and_changes_nothing(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    kek, _ = registry.provision("i", slot, client=client)
    stored = client.get_index_kms(None, "i")
    for other in (slot, f"bound-{slot}"):
        with pytest.raises(kekd.EnvelopeExistsError):
            registry.provision("i", other, client=client)
    with pytest.raises(kekd.EnvelopeExistsError):
        registry.provision("i", client=client, kek=bytes(32))
    after = client.get_index_kms(None, "i")
    assert (after, after.etag) == (stored, stored.etag)
    assert registry.unwrap("i", after) == kek


def test_provision_of_provider_none_stores_no_kek(registry: Registry, client: kekd.Client) -> None:
    own = bytes(range(32))
    kek, _ = registry.provision("i", client=client, kek=own)
    assert kek == own
    stored = client.get_index_kms(None, "i")
    assert stored == kekd.KMSBlob(provider="none", created_at=stored.created_at)


REFUSED: dict[str, tuple[type[KekError], dict[str, Any]]] = {
    "none without a key": (KekRequiredError, {}),
    "an empty key": (InvalidKekError, {"kek": b""}),
    "a short key": (InvalidKekError, {"kek": bytes(31)}),
    "a long key": (InvalidKekError, {"kek": bytearray(33)}),
    "a key in hex": (InvalidKekError, {"kek": "00" * 16}),
    "a key and a slot": (KekNotAcceptedError, {"kek": bytes(32), "slot": "aws"}),
    "a short key and a slot": (KekNotAcceptedError, {"kek": bytes(31), "slot": "aws-kms"}),
    "an unknown slot": (SlotNotFoundError, {"slot": "prod"}),
    "a slot without a name": (SlotNotFoundError, {"slot": ""}),
    "no such key": (KeyNotFoundError, {"slot": "no key"}),
    "no such secret": (SecretNotFoundError, {"slot": "no secret"}),
    "a short secret": (InvalidSecretError, {"slot": "short secret"}),
}


@pytest.mark.parametrize(("kind", "arguments"), REFUSED.values(), ids=REFUSED)
def test_refused_provision_stores_nothing(
    aws: Aws,
    registry: Registry,
    client: kekd.Client,
    kind: type[KekError],
    arguments: dict[str, Any],
) -> None:
    registry.slots |= {
        "no key": aws.slot("no key", "aws-kms", "alias/none"),
        "no secret": aws.slot("no secret", "aws", "none"),
        "short secret": aws.slot("short secret", "aws", aws.new_secret(bytes(31))),
    }
    with pytest.raises(KekError) as refused:
        registry.provision("i", client=client, **arguments)
    assert type(refused.value) is kind
    assert list(client.list_index_kms()) == []


def test_failed_provision_overwrites_the_kek(
    registry: Registry, client: kekd.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    scrubbed: list[bytearray] = []
    monkeypatch.setattr("kekd.kek.registry.scrub", scrubbed.append)
    registry.provision("i", "aws", client=client)
    with pytest.raises(kekd.EnvelopeExistsError):
        registry.provision("i", "aws", client=client)
    assert len(scrubbed) == 1
