"""`Registry.rotate` rewraps a KEK without changing or losing it."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import cyborgdb_core
import pytest

import kekd
from kekd.kek import KeyDescription, Provider, Registry, Slot, WrappedKek
from kekd.kek.aws.secrets import AwsSecrets
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import (
    AccessDeniedError,
    KekError,
    KeyNotAllowedError,
    KeyNotFoundError,
    SecretNotFoundError,
    SlotNotFoundError,
    TamperedError,
    UnwrapError,
)
from tests.fixtures.daemon import StartDaemon
from tests.fixtures.kms import Aws
from tests.integration.kek.providers import each_provider, observed, refusal
from tests.vectors.make_records import values

SWITCHES = [
    ("aws", "aws"),
    ("aws", "other-aws"),
    ("aws", "aws-kms"),
    ("aws-kms", "aws"),
    ("aws-kms", "aws-kms"),
    ("aws-kms", "other-aws-kms"),
]
each_switch = pytest.mark.parametrize(("slot", "into"), SWITCHES)


@each_switch
def test_rewrap_returns_the_new_envelope_and_stores_nothing(
    registry: Registry, client: kekd.Client, slot: str, into: str
) -> None:
    kek, old = registry.provision("i", slot, client=client)
    new = registry.rewrap("i", old, into)
    assert (new.kms_name, new.version, new.store, new.etag) == (into, 2, old.store, "")
    assert registry.unwrap("i", new) == kek
    assert client.get_index_kms(None, "i") == old
    assert registry.is_due("i", old, into)
    assert registry.is_due("i", new, only_drifted=True) is False
    assert registry.is_due("i", old, into, from_slot="another") is False


@each_switch
def test_rotate_keeps_the_kek_and_applies_the_slot(
    registry: Registry, client: kekd.Client, slot: str, into: str
) -> None:
    kek, old = registry.provision("i", slot, client=client)
    client.push_index_kms(None, "i", replace(old, version=7, created_at=1))
    before = int(time.time())
    rotation = registry.rotate("i", into, client=client)
    assert (rotation.index_name, rotation.outcome) == ("i", "rotated")
    new = client.get_index_kms(None, "i")
    assert (new, new.etag) == (rotation.envelope, rotation.envelope.etag)
    its = registry.slots[into]
    assert (new.kms_name, new.provider) == (into, its.provider)
    assert (new.key_id, new.region) == (its.key_id, its.region)
    assert new.version == 8
    assert before <= new.created_at <= time.time()
    assert new.wrapped_kek != old.wrapped_kek
    assert registry.unwrap("i", new) == kek


@each_provider
def test_rotate_without_a_slot_uses_the_envelopes_own(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    kek, _ = registry.provision("i", slot, client=client)
    now = registry.slots[slot] = replace(registry.slots[f"other-{slot}"], name=slot)
    registry.rotate("i", client=client)
    new = client.get_index_kms(None, "i")
    assert (new.kms_name, new.key_id) == (slot, now.key_id)
    assert registry.unwrap("i", new) == kek


@each_switch
def test_rotate_with_keep_version_stays_readable_for_cyborgdb(
    registry: Registry, client: kekd.Client, keystore: Path, slot: str, into: str
) -> None:
    registry.provision("i", slot, client=client)
    rotation = registry.rotate("i", into, client=client, keep_version=True)
    assert rotation.envelope.version == 1
    theirs = cyborgdb_core.StorageConfig.disk(str(keystore))
    assert values(cyborgdb_core.get_index_kms(theirs, "i")) == values(rotation.envelope)


@each_switch
def test_rotate_dry_run_stores_nothing(
    registry: Registry, client: kekd.Client, slot: str, into: str
) -> None:
    kek, _ = registry.provision("i", slot, client=client)
    stored = client.get_index_kms(None, "i")
    rotation = registry.rotate("i", into, client=client, dry_run=True)
    assert rotation.outcome == "would rotate"
    assert (rotation.envelope.kms_name, rotation.envelope.version) == (into, 2)
    assert registry.unwrap("i", rotation.envelope) == kek
    after = client.get_index_kms(None, "i")
    assert (after, after.etag) == (stored, stored.etag)


def test_provider_none_is_unchanged(registry: Registry, client: kekd.Client) -> None:
    registry.provision("i", client=client, kek=bytes(32))
    stored = client.get_index_kms(None, "i")
    for slot in (None, "aws", "no such slot"):
        rotation = registry.rotate("i", slot, client=client)
        assert rotation.outcome == "unchanged"
        assert rotation.envelope.etag == stored.etag
    assert client.get_index_kms(None, "i").etag == stored.etag


# From one KMS key to another


@pytest.mark.parametrize("into", ["aws-kms", "other-aws-kms", "bound-aws-kms"])
def test_rotate_between_kms_keys_uses_reencrypt(
    registry: Registry, client: kekd.Client, into: str
) -> None:
    kek, _ = registry.provision("i", "aws-kms", client=client)
    asked: list[str] = []
    observed(registry.slots, asked.append).rotate("i", into, client=client)
    assert asked == ["ReEncrypt"]
    assert registry.unwrap("i", client.get_index_kms(None, "i")) == kek


def test_rotate_without_permission_to_reencrypt_unwraps_and_wraps(
    registry: Registry, client: kekd.Client
) -> None:
    kek, _ = registry.provision("i", "aws-kms", client=client)
    asked: list[str] = []

    def answer(operation: str) -> Any:
        asked.append(operation)
        return refusal("AccessDeniedException") if operation == "ReEncrypt" else None

    observed(registry.slots, answer).rotate("i", "other-aws-kms", client=client)
    assert asked == ["ReEncrypt", "Decrypt", "Encrypt", "Decrypt"]
    assert registry.unwrap("i", client.get_index_kms(None, "i")) == kek


def test_rotate_between_accounts_unwraps_and_wraps(registry: Registry, client: kekd.Client) -> None:
    kek, _ = registry.provision("i", "aws-kms", client=client)
    other = registry.slots["other-aws-kms"]
    registry.slots["other-aws-kms"] = replace(
        other, role_arn="arn:aws:iam::123456789012:role/somebody-else"
    )
    asked: list[str] = []
    observed(registry.slots, asked.append).rotate("i", "other-aws-kms", client=client)
    assert asked == ["Decrypt", "Encrypt", "Decrypt"]
    assert registry.unwrap("i", client.get_index_kms(None, "i")) == kek


# Concurrent changes


class OvertakenClient(kekd.Client):
    """A client before whose pushes another client makes a change."""

    def __init__(self, address: str, *disturbances: Callable[[], Any]) -> None:
        super().__init__(address)
        self._disturbances = list(disturbances)

    def push_index_kms(self, *arguments: Any, **more: Any) -> str:
        if self._disturbances:
            self._disturbances.pop(0)()
        return super().push_index_kms(*arguments, **more)


@each_switch
def test_rotate_after_a_conflict_rotates_the_newer_envelope(
    registry: Registry, client: kekd.Client, slot: str, into: str
) -> None:
    kek, _ = registry.provision("i", slot, client=client)
    others: list[kekd.KMSBlob] = []

    def rotate() -> None:
        others.append(registry.rotate("i", "other-aws", client=client).envelope)

    with OvertakenClient(client.address, rotate, rotate) as disturbed:
        rotation = registry.rotate("i", into, client=disturbed)
    assert [other.version for other in others] == [2, 3]
    assert rotation.envelope.version == 4
    assert client.get_index_kms(None, "i") == rotation.envelope
    assert registry.unwrap("i", rotation.envelope) == kek


def test_rotate_after_a_conflict_keeps_the_newer_kek(
    registry: Registry, client: kekd.Client
) -> None:
    registry.provision("i", "aws", client=client)
    other_kek, other = registry.provision("other", "other-aws", client=client)
    with OvertakenClient(
        client.address, lambda: client.push_index_kms(None, "i", other)
    ) as disturbed:
        registry.rotate("i", "aws-kms", client=disturbed)
    assert registry.unwrap("i", client.get_index_kms(None, "i")) == other_kek


def test_rotate_of_a_deleted_index_does_not_restore_it(
    registry: Registry, client: kekd.Client
) -> None:
    registry.provision("i", "aws", client=client)
    with (
        OvertakenClient(client.address, lambda: client.delete_index_kms(None, "i")) as disturbed,
        pytest.raises(kekd.EnvelopeNotFoundError),
    ):
        registry.rotate("i", "aws-kms", client=disturbed)
    assert list(client.list_index_kms()) == []


def test_concurrent_rotations_lose_no_version(
    registry: Registry, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    times, flags = 50, ("--disk", str(tmp_path / "keystore"))
    with ExitStack() as stack:
        clients = [
            stack.enter_context(kekd.Client(start_daemon(*flags, name=name).address))
            for name in ("one", "other")
        ]
        kek, _ = registry.provision("i", "aws", client=clients[0])
        start = threading.Barrier(2)

        def rotate(client: kekd.Client, into: str) -> list[int]:
            start.wait()
            rotations = (registry.rotate("i", into, client=client) for _ in range(times))
            return [rotation.envelope.version for rotation in rotations]

        with ThreadPoolExecutor(2) as threads:
            versions = list(threads.map(rotate, clients, ("aws", "aws-kms")))
        assert sorted(versions[0] + versions[1]) == list(range(2, 2 + 2 * times))
        last = clients[0].get_index_kms(None, "i")
    assert last.version == 1 + 2 * times
    assert registry.unwrap("i", last) == kek


# Failures store nothing


class WrongWrapProvider:
    """A provider that wraps another KEK than the given one."""

    def __init__(self, slot: Slot) -> None:
        self._provider = AwsSecrets(slot, timeout=5)

    def wrap(
        self, kek: bytes | bytearray, encryption_context: EncryptionContext | None
    ) -> WrappedKek:
        return self._provider.wrap(os.urandom(len(kek)), encryption_context)

    def unwrap(
        self, wrapped: WrappedKek, encryption_context: EncryptionContext | None
    ) -> bytearray:
        return self._provider.unwrap(wrapped, encryption_context)

    def describe(self) -> KeyDescription:
        return self._provider.describe()


def test_rotate_with_a_wrong_wrap_stores_nothing(registry: Registry, client: kekd.Client) -> None:
    _, old = registry.provision("i", "aws", client=client)

    def provider(slot: Slot) -> Provider:
        return WrongWrapProvider(slot) if slot.key_id != old.key_id else AwsSecrets(slot, timeout=5)

    lying = Registry(registry.slots, provider=provider)
    for dry_run in (True, False):
        with pytest.raises(UnwrapError, match="unwraps to another KEK") as refused:
            lying.rotate("i", "other-aws", client=client, dry_run=dry_run)
        assert refused.value.index_name == "i"
    assert client.get_index_kms(None, "i").etag == old.etag


@each_provider
@pytest.mark.parametrize(
    ("into", "kind"),
    [
        ("no key", KeyNotFoundError),
        ("no secret", SecretNotFoundError),
        ("no slot", SlotNotFoundError),
    ],
)
def test_rotate_with_a_failing_slot_stores_nothing(
    aws: Aws, registry: Registry, client: kekd.Client, slot: str, into: str, kind: type[KekError]
) -> None:
    registry.slots["no key"] = aws.slot("no key", "aws-kms", "alias/none")
    registry.slots["no secret"] = aws.slot("no secret", "aws", "none")
    _, old = registry.provision("i", slot, client=client)
    with pytest.raises(kind) as refused:
        registry.rotate("i", into, client=client)
    assert (refused.value.index_name, refused.value.slot) == ("i", into)
    assert client.get_index_kms(None, "i").etag == old.etag


@each_switch
def test_rotate_of_a_damaged_envelope_changes_nothing(
    registry: Registry, client: kekd.Client, slot: str, into: str
) -> None:
    _, envelope = registry.provision("i", slot, client=client)
    envelope.wrapped_kek = envelope.wrapped_kek[:-1] + bytes([envelope.wrapped_kek[-1] ^ 1])
    etag = client.push_index_kms(None, "i", envelope)
    with pytest.raises(TamperedError):
        registry.rotate("i", into, client=client)
    assert client.get_index_kms(None, "i").etag == etag


@each_provider
def test_rotate_without_the_envelopes_slot_changes_nothing(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    _, old = registry.provision("i", slot, client=client)
    del registry.slots[slot]
    for into in (None, "other-aws"):
        with pytest.raises(SlotNotFoundError) as refused:
            registry.rotate("i", into, client=client)
        assert (refused.value.index_name, refused.value.slot) == ("i", slot)
    assert client.get_index_kms(None, "i").etag == old.etag


@each_provider
def test_rotate_from_a_forbidden_key_raises(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    registry.provision(slot, slot, client=client)
    # As cyborgdb_core writes it: without the ARN of the key behind the alias.
    envelope = replace(client.get_index_kms(None, slot), key_arn="")
    etag = client.push_index_kms(None, slot, envelope)
    registry.slots[slot] = replace(registry.slots[slot], allowed_key_arns=("arn:none",))
    strict = Registry(registry.slots)
    for refused in (
        lambda: strict.unwrap(slot, envelope),
        lambda: strict.rotate(slot, f"other-{slot}", client=client),
    ):
        with pytest.raises(KeyNotAllowedError):
            refused()
    assert client.get_index_kms(None, slot).etag == etag


# Drift


@pytest.mark.parametrize("slot", ["aws", "aws-kms", "bound-aws", "bound-aws-kms"])
def test_drift_of_a_new_envelope_is_empty(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    registry.provision("i", slot, client=client)
    stored = client.get_index_kms(None, "i")
    assert registry.drift("i", stored) == []
    rotation = registry.rotate("i", client=client, only_drifted=True)
    assert rotation.outcome == "unchanged"
    assert client.get_index_kms(None, "i").etag == stored.etag


@pytest.mark.parametrize(
    ("change", "drifted"),
    [
        ({"key_id": "secret-x"}, ["key_id"]),
        ({"region": "eu-central-1"}, ["region"]),
        ({"encryption_context": True}, ["binding"]),
        ({"provider": "aws-kms"}, ["provider"]),
        ({"key_id": "secret-x", "region": "eu-central-1"}, ["key_id", "region"]),
        ({"role_session_name": "somebody", "allowed_key_arns": ("*",)}, []),
    ],
)
def test_drift_names_each_difference(
    registry: Registry, client: kekd.Client, change: dict[str, Any], drifted: list[str]
) -> None:
    registry.provision("i", "aws", client=client)
    registry.slots["aws"] = replace(registry.slots["aws"], **change)
    found = registry.drift("i", client.get_index_kms(None, "i"))
    assert [line.split(" ")[0] for line in found] == drifted


@pytest.mark.parametrize("slot", ["aws", "aws-kms", "bound-aws", "bound-aws-kms"])
def test_drift_of_returned_envelopes_is_empty(
    registry: Registry, client: kekd.Client, slot: str
) -> None:
    _, envelope = registry.provision("i", slot, client=client)
    assert registry.drift("i", envelope) == []
    assert registry.drift("i", registry.rotate("i", client=client).envelope) == []


@pytest.mark.parametrize(
    ("slot", "is_bound", "drifted"),
    [
        ("aws", False, []),
        ("aws", True, ["binding"]),
        ("aws-kms", False, ["key_arn"]),
        ("aws-kms", True, ["binding", "key_arn"]),
    ],
)
def test_drift_of_a_cyborgdb_envelope_names_the_missing_fields(
    registry: Registry, client: kekd.Client, slot: str, is_bound: bool, drifted: list[str]
) -> None:
    envelope = registry.provision("i", slot, client=client)[1]
    registry.slots[slot] = replace(registry.slots[slot], encryption_context=is_bound)
    names = ("kms_name", "provider", "key_id", "region", "wrapped_kek")
    theirs = cyborgdb_core.KMSBlob(**{name: getattr(envelope, name) for name in names})
    assert [line.split(" ")[0] for line in registry.drift("i", theirs)] == drifted


def test_drift_from_another_slot_names_it(registry: Registry, client: kekd.Client) -> None:
    registry.provision("i", "aws", client=client)
    envelope = client.get_index_kms(None, "i")
    assert registry.drift("i", envelope, "other-aws") == [
        "kms_name is 'aws', the slot has 'other-aws'",
        f"key_id is '{envelope.key_id}', the slot has '{registry.slots['other-aws'].key_id}'",
    ]


def test_drift_of_a_retargeted_alias_ends_with_a_rotation(
    aws: Aws, registry: Registry, client: kekd.Client
) -> None:
    old_key, new_key = aws.new_key(), aws.new_key()
    alias = aws.new_alias(old_key)
    slots = {"aliased": aws.slot("aliased", "aws-kms", alias)}
    kek, _ = Registry(slots).provision("i", "aliased", client=client)
    aws.kms.update_alias(AliasName=alias, TargetKeyId=new_key)
    registry = Registry(slots)
    assert registry.drift("i", client.get_index_kms(None, "i")) == [
        f"key_arn is '{old_key}', the slot has '{new_key}'"
    ]
    rotation = registry.rotate("i", client=client, only_drifted=True)
    assert rotation.outcome == "rotated"
    assert rotation.envelope.key_arn == new_key
    assert registry.drift("i", client.get_index_kms(None, "i")) == []
    assert registry.unwrap("i", client.get_index_kms(None, "i")) == kek


def test_drift_of_an_envelope_without_key_arn_is_reported(
    registry: Registry, client: kekd.Client
) -> None:
    _, envelope = registry.provision("i", "aws-kms", client=client)
    envelope.key_arn = ""
    assert [line.split(" ")[0] for line in registry.drift("i", envelope)] == ["key_arn"]


def test_drift_without_permission_to_describe_the_alias_raises(
    registry: Registry, client: kekd.Client
) -> None:
    _, envelope = registry.provision("i", "aws-kms", client=client)

    def answer(operation: str) -> Any:
        return refusal("AccessDeniedException") if operation == "DescribeKey" else None

    with pytest.raises(AccessDeniedError):
        observed(registry.slots, answer).drift("i", envelope)


def test_drift_notices_a_retargeted_alias_later(
    aws: Aws, registry: Registry, client: kekd.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kekd.kek.providers._ALIAS_TTL", 0.0)
    _, envelope = registry.provision("i", "aws-kms", client=client)
    assert registry.drift("i", envelope) == []
    aws.kms.update_alias(AliasName=envelope.key_id, TargetKeyId=aws.new_key())
    assert registry.drift("i", envelope)


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"max_rate": 0}, {"max_rate": float("nan")}])
def test_registry_with_invalid_options_raises(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Registry({}, **wrong)


def test_drift_of_provider_none_is_empty(registry: Registry) -> None:
    assert registry.drift("i", kekd.KMSBlob(provider="none"), "aws") == []


def test_rotate_with_from_slot_skips_other_slots(registry: Registry, client: kekd.Client) -> None:
    _, old = registry.provision("i", "aws", client=client)
    rotation = registry.rotate("i", "aws-kms", client=client, from_slot="other-aws")
    assert rotation.outcome == "unchanged"
    assert client.get_index_kms(None, "i").etag == old.etag
    assert registry.rotate("i", "aws-kms", client=client, from_slot="aws").outcome == "rotated"
