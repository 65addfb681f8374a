import pytest

from kekd.kek.key_pattern import may_match, partial_arn

KMS = "arn:aws:kms:us-east-1:111122223333:key/1234"
SECRET = "arn:aws:secretsmanager:us-east-1:111122223333:secret:prod/key-AbCdEf"


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        KMS,
        "arn:aws:kms:*",
        "arn:*",
        "arn:aws:kms:*:key/1234",
        "arn:aws*:kms:us-east-?:1111*:key/[0-9]234",
        "*/1*4",
        "**",
    ],
)
@pytest.mark.parametrize(
    "key_id", ["1234", "alias/any", "arn:aws:kms:us-east-1:111122223333:alias/any"]
)
def test_pattern_matching_the_arn_can_match_its_known_parts(pattern: str, key_id: str) -> None:
    assert may_match(partial_arn("aws-kms", key_id, "us-east-1"), pattern)


@pytest.mark.parametrize(
    "pattern", [SECRET, "*", "arn:aws:secretsmanager:*:secret:prod/*", "*:secret:prod/key-??????"]
)
def test_pattern_matching_the_secrets_arn_can_match_its_name(pattern: str) -> None:
    assert may_match(partial_arn("aws", "prod/key", "us-east-1"), pattern)


@pytest.mark.parametrize(
    ("key_id", "pattern"),
    [
        ("1234", KMS + "5"),
        ("1234", SECRET),
        ("1234", "arn:aws:kms:eu-west-1:*:key/1234"),
        ("1234", "arn:aws:kms:*:key/5*"),
        ("1234", "arn:none"),
        ("1234", ""),
        ("1?34", KMS),
        ("*", KMS),
        ("alias/any", "arn:aws:kms:eu-west-1:*"),
        ("alias/any", "arn:aws:kms:*:alias/any"),
        ("arn:aws:kms:us-east-1:666655554444:alias/any", KMS),
    ],
)
def test_pattern_matching_no_such_arn_does_not_match(key_id: str, pattern: str) -> None:
    assert not may_match(partial_arn("aws-kms", key_id, "us-east-1"), pattern)


@pytest.mark.parametrize("name", ["other", "prod", "key", "prod/key-AbCdEf-more"])
def test_pattern_of_another_secret_does_not_match(name: str) -> None:
    assert not may_match(partial_arn("aws", name, "us-east-1"), SECRET)


def test_unknown_region_can_match_any() -> None:
    assert may_match(partial_arn("aws-kms", "1234", ""), KMS)


def test_long_patterns_and_keys_match_fast() -> None:
    assert not may_match(partial_arn("aws-kms", "a" * 1000, ""), "*a" * 50 + "b")
