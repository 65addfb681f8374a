"""A bound KEK unwraps only for its own index and store."""

import json
from dataclasses import replace
from pathlib import Path

import cyborgdb_core
import pytest

import kekd
from kekd.kek import Registry
from kekd.kek.errors import TamperedError, WrongContextError
from tests.integration.kek.providers import each_bound_slot, each_provider
from tests.vectors.make_records import values


def provisioned(registry: Registry, client: kekd.Client, slot: str) -> tuple[bytes, kekd.KMSBlob]:
    """Provisions index `i`. Returns its KEK and its stored envelope."""
    kek, _ = registry.provision("i", slot, client=client)
    return bytes(kek), client.get_index_kms(None, "i")


def copied(
    client: kekd.Client,
    envelope: kekd.KMSBlob,
    index_name: str,
    store: kekd.StorageConfig | None = None,
) -> kekd.KMSBlob:
    """Stores the envelope under another index or in another store, and reads it there."""
    client.push_index_kms(store, index_name, envelope)
    return client.get_index_kms(store, index_name)


def forged(envelope: kekd.KMSBlob, **change: str) -> kekd.KMSBlob:
    binding = json.dumps(json.loads(envelope.binding) | change, separators=(",", ":"))
    return replace(envelope, binding=binding)


@each_provider
def test_copy_of_an_unbound_envelope_unwraps(
    registry: Registry, client: kekd.Client, memory: kekd.StorageConfig, slot: str
) -> None:
    kek, envelope = provisioned(registry, client, slot)
    assert registry.unwrap("other", copied(client, envelope, "other")) == kek
    assert registry.unwrap("i", copied(client, envelope, "i", memory)) == kek


@each_bound_slot
def test_envelope_copied_to_another_index_raises(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    _, envelope = provisioned(registry, client, slot)
    with pytest.raises(WrongContextError, match="index 'i'") as refused:
        registry.unwrap("other", copied(client, envelope, "other"))
    assert refused.value.index_name == "other"


@each_bound_slot
def test_envelope_copied_to_another_store_raises(
    registry: Registry, client: kekd.Client, memory: kekd.StorageConfig, slot: str
) -> None:
    _, envelope = provisioned(registry, client, slot)
    with pytest.raises(WrongContextError) as refused:
        registry.unwrap("i", copied(client, envelope, "i", memory))
    assert f"from_store '{envelope.store}'" in str(refused.value)


@each_bound_slot
def test_copy_with_a_forged_context_raises(
    registry: Registry, client: kekd.Client, memory: kekd.StorageConfig, slot: str
) -> None:
    _, envelope = provisioned(registry, client, slot)
    copies = {
        "other": copied(client, forged(envelope, index_name="other"), "other"),
        "i": copied(client, forged(envelope, store="memory"), "i", memory),
        "unbound": copied(client, replace(envelope, binding=""), "unbound"),
    }
    for index_name, copy in copies.items():
        with pytest.raises(TamperedError):
            registry.unwrap(index_name, copy)


@each_bound_slot
@pytest.mark.parametrize("binding", ["{}", "[]", "i", '{"index_name":"i"}', "[" * 10000])
def test_envelope_with_an_invalid_context_raises(
    registry: Registry, client: kekd.Client, slot: str, binding: str
) -> None:
    _, envelope = provisioned(registry, client, slot)
    with pytest.raises(WrongContextError):
        registry.unwrap("i", replace(envelope, binding=binding))


@each_bound_slot
@pytest.mark.parametrize("index_name", ["é/..", 'a"b', "a\0b", "🔑", "x" * 247])
def test_any_index_name_can_be_in_the_context(
    registry: Registry, client: kekd.Client, slot: str, index_name: str
) -> None:
    kek, _ = registry.provision(index_name, slot, client=client)
    assert registry.unwrap(index_name, client.get_index_kms(None, index_name)) == kek


@each_bound_slot
def test_rotation_of_a_copy_raises(registry: Registry, client: kekd.Client, slot: str) -> None:
    _, envelope = provisioned(registry, client, slot)
    copy = copied(client, envelope, "other")
    for into in (slot, "aws", "aws-kms"):
        with pytest.raises(WrongContextError):
            registry.rotate("other", into, client=client, from_store=envelope.store)
    assert client.get_index_kms(None, "other").etag == copy.etag


@each_bound_slot
@pytest.mark.parametrize("into", ["bound-aws", "bound-aws-kms"])
def test_rotation_with_from_store_binds_a_moved_envelope(
    registry: Registry, client: kekd.Client, memory: kekd.StorageConfig, slot: str, into: str
) -> None:
    kek, envelope = provisioned(registry, client, slot)
    moved = copied(client, envelope, "i", memory)
    for from_store in ("", "disk:/elsewhere"):
        with pytest.raises(WrongContextError):
            registry.rotate("i", into, client=client, config_location=memory, from_store=from_store)
    assert client.get_index_kms(memory, "i").etag == moved.etag
    registry.rotate("i", into, client=client, config_location=memory, from_store=envelope.store)
    rebound = client.get_index_kms(memory, "i")
    assert json.loads(rebound.binding) == {"index_name": "i", "store": "memory"}
    assert registry.unwrap("i", rebound) == kek


@each_provider
def test_rotation_follows_the_slots_encryption_context(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    kek, _ = provisioned(registry, client, slot)
    for into, is_bound in ((f"bound-{slot}", True), (slot, False)):
        registry.rotate("i", into, client=client)
        envelope = client.get_index_kms(None, "i")
        assert bool(envelope.binding) == is_bound
        assert registry.unwrap("i", envelope) == kek


@each_bound_slot
def test_cyborgdb_reads_a_bound_envelope(
    registry: Registry, client: kekd.Client, keystore: Path, slot: str
) -> None:
    _, envelope = provisioned(registry, client, slot)
    theirs = cyborgdb_core.StorageConfig.disk(str(keystore))
    assert values(cyborgdb_core.get_index_kms(theirs, "i")) == values(envelope)


@pytest.mark.parametrize("slot", ["aws", "aws-kms", "bound-aws", "bound-aws-kms"])
def test_envelope_rewritten_by_cyborgdb_is_unbound(
    registry: Registry, client: kekd.Client, keystore: Path, slot: str
) -> None:
    kek, envelope = provisioned(registry, client, slot)
    theirs = cyborgdb_core.StorageConfig.disk(str(keystore))
    cyborgdb_core.push_index_kms(theirs, "i", cyborgdb_core.get_index_kms(theirs, "i"))
    rewritten = client.get_index_kms(None, "i")
    # cyborgdb_core drops unknown fields.
    assert rewritten == replace(envelope, key_arn="", binding="")
    if not envelope.binding:
        assert registry.unwrap("i", rewritten) == kek
        return
    with pytest.raises(TamperedError):
        registry.unwrap("i", rewritten)
