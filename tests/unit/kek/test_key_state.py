"""Problems of the keys that envelopes need, partly on moto."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

import kekd
from kekd.kek import KeyStates, Registry, Slot, WrappedKek
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import AccessDeniedError, KekError, ProviderUnavailableError
from kekd.kek.provider import KeyDescription
from tests.fixtures.kms import Aws

NOW = 1_790_000_000
KEY = "arn:aws:kms:us-east-1:123456789012:key/a"
OTHER = "arn:aws:kms:us-east-1:123456789012:key/b"


class FakeKms:
    """A KMS whose answers or failure a test sets."""

    def __init__(self, key_id: str) -> None:
        self.description: KeyDescription | KekError = KeyDescription(key_id, enabled=True)
        self.rotation: int | KekError | None = None
        self.asked = 0

    def wrap(
        self, kek: bytes | bytearray, encryption_context: EncryptionContext | None
    ) -> WrappedKek:
        raise NotImplementedError

    def unwrap(
        self, wrapped: WrappedKek, encryption_context: EncryptionContext | None
    ) -> bytearray:
        raise NotImplementedError

    def describe(self) -> KeyDescription:
        self.asked += 1
        if isinstance(self.description, KekError):
            raise self.description
        return self.description

    def last_rotation(self, _key_arn: str) -> int | None:
        if isinstance(self.rotation, KekError):
            raise self.rotation
        return self.rotation


class Keys:
    """A registry with one slot, whose key is `KEY`, and the KMS behind it."""

    def __init__(self) -> None:
        self.kms: dict[str, FakeKms] = {}
        slot = Slot("prod", "aws-kms", KEY, "us-east-1")
        self.registry = Registry({"prod": slot}, provider=lambda slot: self.of(slot.key_id))
        self.states = KeyStates(self.registry)

    def of(self, key_id: str) -> FakeKms:
        return self.kms.setdefault(key_id, FakeKms(key_id))


@pytest.fixture
def keys() -> Keys:
    return Keys()


def envelope(key_id: str = KEY, **more: Any) -> kekd.KMSBlob:
    given: dict[str, Any] = {"created_at": NOW} | more
    return kekd.KMSBlob("prod", "aws-kms", key_id, "us-east-1", b"wrapped", **given)


def test_usable_key_has_no_problem(keys: Keys) -> None:
    assert keys.states.problems(envelope()) == []
    assert keys.states.missing_permissions == []


def test_each_key_is_described_once(keys: Keys) -> None:
    for _ in range(5):
        keys.states.problems(envelope())
        keys.states.problems(envelope(OTHER))
    assert [kms.asked for kms in keys.kms.values()] == [1, 1]


def test_disabled_key_is_a_problem(keys: Keys) -> None:
    keys.of(KEY).description = KeyDescription(KEY, enabled=False, state="Disabled")
    (problem,) = keys.states.problems(envelope())
    assert problem.startswith(f"its key {KEY} is disabled")


def test_unusable_state_is_a_problem_with_its_name(keys: Keys) -> None:
    keys.of(KEY).description = KeyDescription(KEY, enabled=False, state="PendingImport")
    assert "is in state PendingImport" in keys.states.problems(envelope())[0]


def test_problem_of_the_wrapping_key_is_reported_despite_another_slot_key(keys: Keys) -> None:
    ends = 1_800_000_000
    keys.of(OTHER).description = KeyDescription(
        OTHER, enabled=False, state="PendingDeletion", deletion_time=ends
    )
    (problem,) = keys.states.problems(envelope(OTHER))
    assert problem.startswith(f"its key {OTHER} is pending deletion (2027-01-15 08:00 UTC)")
    (problem,) = keys.states.problems(envelope("alias/old", key_arn=OTHER))
    assert problem.startswith(f"its key {OTHER} is pending deletion")


def test_problem_of_the_slot_key_is_reported_despite_another_wrapping_key(keys: Keys) -> None:
    keys.of(KEY).description = KeyDescription(KEY, enabled=False, state="Disabled")
    (problem,) = keys.states.problems(envelope(OTHER))
    assert problem.startswith(f"its slot's key {KEY} is disabled")


@pytest.mark.parametrize(
    ("created_at", "is_reported"), [(NOW, False), (NOW - 100, False), (NOW - 101, True), (0, True)]
)
def test_wrap_before_the_rotation_of_its_key_is_a_problem(
    keys: Keys, created_at: int, is_reported: bool
) -> None:
    keys.of(KEY).rotation = NOW - 100
    problems = keys.states.problems(envelope(created_at=created_at))
    assert bool(problems) == is_reported
    assert all("before its key" in problem and "--older-than" in problem for problem in problems)


def test_wrap_of_unknown_age_is_a_problem_only_after_a_rotation(keys: Keys) -> None:
    assert keys.states.problems(envelope(created_at=0)) == []


def test_missing_permissions_are_reported_apart_from_problems(keys: Keys) -> None:
    keys.of(KEY).rotation = keys.of("third").rotation = AccessDeniedError("no")
    keys.of(OTHER).description = AccessDeniedError("no")
    for key in (KEY, OTHER, "third", KEY):
        assert keys.states.problems(envelope(key)) == []
    described, rotated = sorted(keys.states.missing_permissions)[::-1]
    assert described == (
        "cannot check whether keys are disabled, pending deletion or rotated: AWS refuses it for"
        f" {OTHER}; allow kms:DescribeKey"
    )
    assert rotated == (
        f"cannot check when keys were rotated: AWS refuses it for {KEY}, third;"
        " allow kms:ListKeyRotations"
    )


def test_unavailable_provider_raises(keys: Keys) -> None:
    keys.of(KEY).description = ProviderUnavailableError("down")
    with pytest.raises(ProviderUnavailableError):
        keys.states.problems(envelope())


def test_provider_none_has_no_key_to_check(keys: Keys) -> None:
    assert keys.states.problems(kekd.KMSBlob(provider="none")) == []
    assert keys.kms == {}


def test_problems_of_a_real_kms_key_are_reported(aws: Aws) -> None:
    old, new = aws.new_key(), aws.new_key()
    slot = aws.slot("prod", "aws-kms", aws.new_alias(new))
    states = KeyStates(Registry({"prod": slot}))
    aws.kms.schedule_key_deletion(KeyId=old.rpartition("/")[2], PendingWindowInDays=7)
    aws.kms.rotate_key_on_demand(KeyId=new.rpartition("/")[2])
    (problem,) = states.problems(envelope(old))
    assert f"its key {old} is pending deletion (20" in problem
    (problem,) = states.problems(envelope(slot.key_id, key_arn=new, created_at=1))
    assert problem.startswith("was wrapped on 1970-01-01")
    gone = f"{new.rpartition('/')[0]}/{UUID(int=0)}"
    (problem,) = states.problems(envelope(gone))
    assert problem == f"its key {gone} doesn't exist any more; check its id"


def test_secret_pending_deletion_is_a_problem(aws: Aws) -> None:
    name = aws.new_secret()
    slot = aws.slot("prod", "aws", name)
    blob = replace(envelope(name), provider="aws")
    assert KeyStates(Registry({"prod": slot})).problems(blob) == []
    aws.secrets.delete_secret(SecretId=name)
    (problem,) = KeyStates(Registry({"prod": slot})).problems(blob)
    assert "is pending deletion (20" in problem
