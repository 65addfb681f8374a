from dataclasses import replace

import pytest

from kekd.kek import Slot
from kekd.kek.errors import KeyNotAllowedError
from kekd.kek.slot import region_of

SLOT = Slot("prod", "aws-kms", "alias/prod")
KEY = "arn:aws:kms:us-east-1:111122223333:key/a"


@pytest.mark.parametrize(
    ("key_id", "region"),
    [
        (KEY, "us-east-1"),
        ("arn:aws-cn:kms:cn-north-1:111122223333:alias/prod", "cn-north-1"),
        ("arn:aws:secretsmanager:eu-west-1:111122223333:secret:a:b-AbCdEf", "eu-west-1"),
        ("arn:aws:iam::111122223333:role/a", ""),
        ("arn:aws:kms:us-east-1", ""),
        ("alias/prod", ""),
        ("a:b:c:d:e:f", ""),
        ("", ""),
    ],
)
def test_region_of_an_arn_is_found(key_id: str, region: str) -> None:
    assert region_of(key_id) == region


@pytest.mark.parametrize(
    ("patterns", "key_arn", "allowed"),
    [
        ((), KEY, True),
        ((KEY,), KEY, True),
        (("arn:aws:kms:*:111122223333:key/*",), KEY, True),
        (("none", KEY), KEY, True),
        ((KEY,), KEY + "b", False),
        ((KEY,), KEY.upper(), False),
        (("arn:aws:kms:*:444455556666:key/*",), KEY, False),
        (("",), KEY, False),
    ],
)
def test_patterns_decide_which_keys_are_allowed(
    patterns: tuple[str, ...], key_arn: str, allowed: bool
) -> None:
    slot = replace(SLOT, allowed_key_arns=patterns)
    assert slot.allows(key_arn) is allowed
    if allowed:
        assert slot.require_allowed(key_arn) == key_arn
    else:
        with pytest.raises(KeyNotAllowedError, match="allowed_key_arns"):
            slot.require_allowed(key_arn)


@pytest.mark.parametrize(
    ("name", "written", "session_name"),
    [
        ("prod", "", "kekd-prod"),
        ("prod", "written", "written"),
        ("a/b c\n", "", "kekd-a-b-c-"),
        ("schlüssel", "", "kekd-schl-ssel"),
        ("a+=,.@-_b", "", "kekd-a+=,.@-_b"),
        ("x" * 99, "", "kekd-" + "x" * 59),
        ("", "", "kekd-"),
    ],
)
def test_session_name_is_derived_from_the_slot(name: str, written: str, session_name: str) -> None:
    assert Slot(name, "aws", "k", role_session_name=written).session_name == session_name


@pytest.mark.parametrize(
    "field", ["region", "role_arn", "external_id", "role_session_name", "endpoint_url"]
)
def test_other_field_changes_the_access(field: str) -> None:
    slot = replace(SLOT, role_arn="arn:aws:iam::222233334444:role/kekd")
    assert replace(slot, **{field: "other"}).access != slot.access  # type: ignore[arg-type]


def test_slots_without_a_role_share_the_access() -> None:
    other = replace(SLOT, name="other", role_session_name="other", external_id="id")
    assert other.access == SLOT.access


def test_arns_of_one_region_share_the_access() -> None:
    assert replace(SLOT, region="us-east-1").access == replace(SLOT, key_id=KEY).access
