"""`Registry.unwrap` returns the KEK of an envelope or raises."""

import os
from dataclasses import replace
from typing import Any

import cyborgdb_core
import pytest

import kekd
from kekd.kek import Registry
from kekd.kek.errors import (
    AccessDeniedError,
    InvalidKekError,
    KekError,
    KekNotAcceptedError,
    KekRequiredError,
    SlotNotFoundError,
    TamperedError,
    UnwrapError,
    WrongKeyError,
)
from tests.fixtures.kms import Aws
from tests.integration.kek.providers import each_provider
from tests.vectors.make_records import values


@each_provider
def test_unwrap_makes_no_call_to_a_daemon(
    registry: Registry, client: kekd.Client, monkeypatch: pytest.MonkeyPatch, slot: str
) -> None:
    kek, _ = registry.provision("i", slot, client=client)
    envelope = client.get_index_kms(None, "i")

    def call(*_: Any) -> None:
        pytest.fail("it called the daemon")

    monkeypatch.setattr(kekd.Client, "_call", call)
    assert registry.unwrap("i", envelope) == kek


@each_provider
def test_unwrap_uses_the_key_that_the_envelope_names(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    kek, envelope = registry.provision("i", slot, client=client)
    other = registry.slots[f"other-{slot}"]
    registry.slots[slot] = replace(other, name=slot)
    assert registry.unwrap("i", envelope) == kek


@each_provider
def test_unwrap_accepts_a_blob_of_cyborgdb_core(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    kek, envelope = registry.provision("i", slot, client=client)
    blob = cyborgdb_core.KMSBlob(*values(envelope))
    assert not hasattr(blob, "key_arn")
    assert registry.unwrap("i", blob) == kek


def test_unwrap_of_provider_none_returns_the_callers_kek(
    registry: Registry, client: kekd.Client
) -> None:
    own = os.urandom(32)
    _, envelope = registry.provision("i", client=client, kek=own)
    assert registry.unwrap("i", envelope, kek=own) == own
    with pytest.raises(KekRequiredError) as refused:
        registry.unwrap("i", envelope)
    assert refused.value.index_name == "i"


@pytest.mark.parametrize("kek", [b"", bytes(31), bytes(33), "0" * 32])
def test_callers_kek_of_another_length_raises(registry: Registry, kek: Any) -> None:
    with pytest.raises(InvalidKekError):
        registry.unwrap("i", kekd.KMSBlob(provider="none"), kek=kek)


@each_provider
def test_callers_kek_for_another_provider_raises(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    kek, envelope = registry.provision("i", slot, client=client)
    for brought in (kek, bytes(32), b""):
        with pytest.raises(KekNotAcceptedError) as refused:
            registry.unwrap("i", envelope, kek=brought)
        assert refused.value.index_name == "i"


@each_provider
def test_unwrap_without_the_slot_names_the_one_to_restore(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    _, envelope = registry.provision("i", slot, client=client)
    key_id = registry.slots.pop(slot).key_id
    with pytest.raises(SlotNotFoundError, match="restore the slot") as missing:
        registry.unwrap("i", envelope)
    assert (missing.value.index_name, missing.value.slot) == ("i", slot)
    assert missing.value.key_id == key_id
    for detail in ("'i'", f"'{slot}'", f"'{key_id}'", "'us-east-1'"):
        assert detail in str(missing.value)


def test_unwrap_of_an_unknown_provider_raises(registry: Registry) -> None:
    with pytest.raises(KekError, match="unknown provider 'gcp-kms'"):
        registry.unwrap("i", kekd.KMSBlob("aws", "gcp-kms", wrapped_kek=b"\1"))


def flipped(record: bytes, byte: int) -> bytes:
    damaged = bytearray(record)
    damaged[byte] ^= 1 << byte % 8
    return bytes(damaged)


def test_unwrap_of_a_secret_wrap_with_a_flipped_bit_raises(
    registry: Registry, client: kekd.Client
) -> None:
    _, envelope = registry.provision("i", "aws", client=client)
    record = envelope.wrapped_kek
    assert len(record) == 12 + 32 + 16
    for byte in range(len(record)):
        damaged = replace(envelope, wrapped_kek=flipped(record, byte))
        with pytest.raises(TamperedError):
            registry.unwrap("i", damaged)


def test_unwrap_of_a_kms_wrap_with_a_flipped_bit_raises(
    registry: Registry, client: kekd.Client
) -> None:
    _, envelope = registry.provision("i", "aws-kms", client=client)
    record = envelope.wrapped_kek
    # The first bytes of a ciphertext of moto name the key.
    for byte in range(36, len(record)):
        with pytest.raises(TamperedError):
            registry.unwrap("i", replace(envelope, wrapped_kek=flipped(record, byte)))


@each_provider
@pytest.mark.parametrize("keep", [0, 1, 11, 12, 27, 28, 59])
def test_unwrap_of_a_short_wrap_raises(
    registry: Registry, client: kekd.Client, slot: str, keep: int
) -> None:
    _, envelope = registry.provision("i", slot, client=client)
    with pytest.raises(TamperedError) as refused:
        registry.unwrap("i", replace(envelope, wrapped_kek=envelope.wrapped_kek[:keep]))
    assert (refused.value.index_name, refused.value.slot) == ("i", slot)


@each_provider
def test_unwrap_of_a_wrap_by_another_key_raises(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    _, envelope = registry.provision("i", slot, client=client)
    _, other = registry.provision("other", f"other-{slot}", client=client)
    envelope.wrapped_kek = other.wrapped_kek
    # Where KMS answers IncorrectKeyException (WrongKeyError), moto answers AccessDeniedException.
    with pytest.raises((TamperedError, WrongKeyError, AccessDeniedError)):
        registry.unwrap("i", envelope)


def test_unwrap_of_a_plaintext_of_another_length_raises(
    registry: Registry, client: kekd.Client
) -> None:
    _, envelope = registry.provision("i", "aws", client=client)
    with pytest.raises(UnwrapError):
        registry.unwrap("i", replace(envelope, wrapped_kek=envelope.wrapped_kek + b"\0"))


def test_unwrap_without_a_slot_uses_no_credentials(
    aws: Aws, registry: Registry, client: kekd.Client
) -> None:
    theirs = aws.new_key()
    wrapped = aws.kms.encrypt(KeyId=theirs, Plaintext=bytes(32))["CiphertextBlob"]
    envelope = kekd.KMSBlob("", "aws-kms", theirs, "us-east-1", wrapped)
    with pytest.raises(SlotNotFoundError):
        registry.unwrap("i", envelope)
    client.push_index_kms(None, "i", envelope)
    with pytest.raises(SlotNotFoundError):
        registry.rotate("i", "aws-kms", client=client)


def test_unwrap_with_an_outdated_key_arn_falls_back_to_key_id(
    aws: Aws, registry: Registry, client: kekd.Client
) -> None:
    _, envelope = registry.provision("i", "aws-kms", client=client)
    aws.kms.update_alias(AliasName=envelope.key_id, TargetKeyId=aws.new_key())
    kek = bytes(range(32))
    answer = aws.kms.encrypt(KeyId=envelope.key_id, Plaintext=kek)
    envelope.wrapped_kek = answer["CiphertextBlob"]
    assert envelope.key_arn != answer["KeyId"]
    assert registry.unwrap("i", envelope) == kek


def test_unwrap_with_a_slot_without_a_region_uses_the_keys(
    registry: Registry, client: kekd.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.slots["aws-kms"] = replace(registry.slots["aws-kms"], region="")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    kek, envelope = registry.provision("i", "aws-kms", client=client)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert Registry(registry.slots).unwrap("i", envelope) == kek
