"""Provider `aws-kms` on moto's KMS. test_aws_errors.py covers the errors of AWS."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.stub import Stubber

from kekd.kek import Slot, WrappedKek
from kekd.kek.aws.kms import AwsKms
from kekd.kek.aws.secrets import AwsSecrets
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import (
    AccessDeniedError,
    KekError,
    KeyNotAllowedError,
    KeyNotFoundError,
    RegionMismatchError,
    TamperedError,
)
from tests.fixtures.kms import Aws, calls_of

Provider = Callable[[Slot], AwsKms]

KEK = bytes(range(32))
MINE = EncryptionContext("mine", "default")


@pytest.fixture
def provider(aws: Aws) -> Provider:
    return lambda slot: AwsKms(slot, timeout=5, client=aws.kms)


def by_id(aws: Aws, key_arn: str) -> str:
    return key_arn.rpartition("/")[2]


def by_arn(aws: Aws, key_arn: str) -> str:
    return key_arn


def by_alias(aws: Aws, key_arn: str) -> str:
    return aws.new_alias(key_arn)


def by_alias_arn(aws: Aws, key_arn: str) -> str:
    return f"{key_arn.partition(':key/')[0]}:{aws.new_alias(key_arn)}"


@pytest.mark.parametrize("named", [by_id, by_arn, by_alias, by_alias_arn])
@pytest.mark.parametrize("kek", [KEK, bytearray(KEK)], ids=["bytes", "bytearray"])
def test_unwrap_with_any_form_of_key_id_returns_the_kek(
    aws: Aws, provider: Provider, named: Callable[[Aws, str], str], kek: bytes | bytearray
) -> None:
    key_arn = aws.new_key()
    kms = provider(aws.slot("prod", "aws-kms", named(aws, key_arn)))
    wrapped = kms.wrap(kek, None)
    assert wrapped.key_arn == key_arn
    assert KEK not in wrapped.wrapped_kek
    opened = kms.unwrap(wrapped, None)
    assert opened == KEK
    assert isinstance(opened, bytearray)  # so that its owner can overwrite it


def test_kms_decrypts_a_wrapped_kek(aws: Aws, provider: Provider) -> None:
    key_arn = aws.new_key()
    wrapped = provider(aws.slot("prod", "aws-kms", key_arn)).wrap(KEK, None)
    opened = aws.kms.decrypt(KeyId=key_arn, CiphertextBlob=wrapped.wrapped_kek)
    assert opened["Plaintext"] == KEK


def test_every_request_has_a_key_id(aws: Aws, provider: Provider) -> None:
    key_arn = aws.new_key()
    alias = aws.new_alias(key_arn)
    kms = provider(aws.slot("prod", "aws-kms", alias))
    calls = calls_of(aws.kms)
    wrapped = kms.wrap(KEK, None)
    kms.unwrap(wrapped, None)
    kms.unwrap(replace(wrapped, key_arn=""), None)
    kms.rewrap(wrapped, None, kms, None)
    kms.rewrap(replace(wrapped, key_arn=""), None, kms, None)
    keys = {name: value for name, value in calls[3][1].items() if "KeyId" in name}
    assert [arguments.get("KeyId") for _, arguments in calls[:3]] == [alias, key_arn, alias]
    assert keys == {"SourceKeyId": key_arn, "DestinationKeyId": alias}
    assert calls[4][1]["SourceKeyId"] == alias


def test_unwrap_after_the_alias_was_retargeted_uses_the_recorded_key(
    aws: Aws, provider: Provider
) -> None:
    old = aws.new_key()
    alias = aws.new_alias(old)
    kms = provider(aws.slot("prod", "aws-kms", alias))
    wrapped = kms.wrap(KEK, None)
    aws.kms.update_alias(AliasName=alias, TargetKeyId=aws.new_key())
    assert kms.unwrap(wrapped, None) == KEK
    with pytest.raises(AccessDeniedError):  # moto's answer for another key's ciphertext
        kms.unwrap(replace(wrapped, key_arn=""), None)


def test_slot_keeps_its_key_id(aws: Aws, provider: Provider) -> None:
    alias = aws.new_alias(aws.new_key())
    kms = provider(aws.slot("prod", "aws-kms", alias))
    kms.wrap(KEK, None)
    assert kms.slot.key_id == alias


def test_wrap_with_a_forbidden_key_raises(aws: Aws, provider: Provider) -> None:
    alias = aws.new_alias(aws.new_key())
    kms = provider(aws.slot("prod", "aws-kms", alias, allowed_key_arns=(aws.new_key(),)))
    with pytest.raises(KeyNotAllowedError) as caught:
        kms.wrap(KEK, None)
    assert caught.value.slot == "prod"


def test_unwrap_with_a_forbidden_recorded_key_makes_no_request(
    aws: Aws, provider: Provider
) -> None:
    slot = aws.slot("prod", "aws-kms", aws.new_key())
    wrapped = provider(aws.slot("prod", "aws-kms", aws.new_key())).wrap(KEK, None)
    kms = provider(replace(slot, allowed_key_arns=(slot.key_id,)))
    calls = calls_of(aws.kms)
    with pytest.raises(KeyNotAllowedError) as caught:
        kms.unwrap(wrapped, None)
    with pytest.raises(KeyNotAllowedError):
        kms.rewrap(wrapped, None, kms, None)
    assert calls == []
    assert caught.value.key_id == wrapped.key_arn


def test_unwrap_with_an_alias_of_a_forbidden_key_raises(aws: Aws, provider: Provider) -> None:
    alias = aws.new_alias(aws.new_key())
    slot = aws.slot("prod", "aws-kms", alias)
    wrapped = replace(provider(slot).wrap(KEK, None), key_arn="")
    kms = provider(replace(slot, allowed_key_arns=(aws.new_key(),)))
    with pytest.raises(KeyNotAllowedError):
        kms.unwrap(wrapped, None)


def test_rewrap_from_an_alias_of_a_forbidden_key_raises(aws: Aws, provider: Provider) -> None:
    target = aws.slot("next", "aws-kms", aws.new_key())
    slot = aws.slot("prod", "aws-kms", aws.new_alias(aws.new_key()))
    wrapped = replace(provider(slot).wrap(KEK, None), key_arn="")
    kms = provider(replace(slot, allowed_key_arns=(target.key_id,)))
    with pytest.raises(KeyNotAllowedError):
        kms.rewrap(wrapped, None, provider(target), None)


def test_rewrap_to_a_forbidden_key_raises(aws: Aws, provider: Provider) -> None:
    kms = provider(aws.slot("prod", "aws-kms", aws.new_key()))
    target = aws.slot("next", "aws-kms", aws.new_key(), allowed_key_arns=(aws.new_key(),))
    with pytest.raises(KeyNotAllowedError):
        kms.rewrap(kms.wrap(KEK, None), None, provider(target), None)


def test_pattern_of_an_account_allows_its_keys(aws: Aws, provider: Provider) -> None:
    every = ("arn:aws:kms:us-east-1:123456789012:key/*",)
    kms = provider(aws.slot("prod", "aws-kms", aws.new_key(), allowed_key_arns=every))
    assert kms.unwrap(kms.wrap(KEK, None), None) == KEK


def test_key_of_another_region_raises(aws: Aws, provider: Provider) -> None:
    elsewhere = aws.new_key().replace("us-east-1", "eu-central-1")
    with pytest.raises(RegionMismatchError, match="eu-central-1"):
        provider(aws.slot("prod", "aws-kms", elsewhere))
    kms = provider(aws.slot("prod", "aws-kms", aws.new_key()))
    calls = calls_of(aws.kms)
    with pytest.raises(RegionMismatchError, match="eu-central-1"):
        kms.unwrap(WrappedKek(b"wrapped", elsewhere), None)
    assert calls == []


def test_slot_without_a_region_uses_that_of_the_arn(aws: Aws, provider: Provider) -> None:
    kms = AwsKms(replace(aws.slot("prod", "aws-kms", aws.new_key()), region=""), timeout=5)
    assert kms._client.meta.region_name == "us-east-1"
    assert kms.unwrap(kms.wrap(KEK, None), None) == KEK


def test_encryption_context_is_sent_to_kms(aws: Aws, provider: Provider) -> None:
    kms = provider(aws.slot("prod", "aws-kms", aws.new_key()))
    calls = calls_of(aws.kms)
    assert kms.unwrap(kms.wrap(KEK, MINE), MINE) == KEK
    context = {"index_name": "mine", "store": "default"}
    assert [arguments["EncryptionContext"] for _, arguments in calls] == [context] * 2


@pytest.mark.parametrize(
    "other",
    [
        None,
        EncryptionContext("mine", "other"),
        EncryptionContext("yours", "default"),
        EncryptionContext("", ""),
    ],
)
def test_unwrap_with_another_encryption_context_raises(
    aws: Aws, provider: Provider, other: EncryptionContext | None
) -> None:
    kms = provider(aws.slot("prod", "aws-kms", aws.new_key()))
    wrapped = kms.wrap(KEK, MINE)
    with pytest.raises(TamperedError):
        kms.unwrap(wrapped, other)


def test_unwrap_with_an_unexpected_encryption_context_raises(aws: Aws, provider: Provider) -> None:
    kms = provider(aws.slot("prod", "aws-kms", aws.new_key()))
    wrapped = kms.wrap(KEK, None)
    with pytest.raises(TamperedError):
        kms.unwrap(wrapped, MINE)


def test_unknown_key_is_not_found(aws: Aws, provider: Provider) -> None:
    kms = provider(aws.slot("prod", "aws-kms", "alias/nowhere"))
    with pytest.raises(KeyNotFoundError) as caught:
        kms.wrap(KEK, None)
    assert (caught.value.slot, caught.value.key_id) == ("prod", "alias/nowhere")
    assert caught.value.code == "NotFoundException"


@pytest.mark.parametrize("record", [b"w", bytes(200)])
def test_unwrap_of_garbage_raises(aws: Aws, provider: Provider, record: bytes) -> None:
    kms = provider(aws.slot("prod", "aws-kms", aws.new_key()))
    with pytest.raises(KekError):
        kms.unwrap(WrappedKek(record), None)


@pytest.mark.parametrize("record", [b"", bytes(6145)], ids=["empty", "more than KMS takes"])
def test_unwrap_of_an_impossible_length_makes_no_request(
    aws: Aws, provider: Provider, record: bytes
) -> None:
    kms = provider(aws.slot("prod", "aws-kms", aws.new_key()))
    calls = calls_of(aws.kms)
    with pytest.raises(TamperedError):
        kms.unwrap(WrappedKek(record), None)
    assert calls == []


def test_unwrap_with_any_flipped_bit_raises(aws: Aws, provider: Provider) -> None:
    """Moto's ciphertext begins with the key's id, so a flipped bit there names another key."""
    kms = provider(aws.slot("prod", "aws-kms", aws.new_key()))
    wrapped = kms.wrap(KEK, None)
    for place in range(len(wrapped.wrapped_kek)):
        record = bytearray(wrapped.wrapped_kek)
        record[place] ^= 1
        with pytest.raises((TamperedError, AccessDeniedError, KeyNotFoundError)):
            kms.unwrap(replace(wrapped, wrapped_kek=bytes(record)), None)


def test_describe_returns_the_state_of_the_key(aws: Aws, provider: Provider) -> None:
    key_arn = aws.new_key()
    kms = provider(aws.slot("prod", "aws-kms", aws.new_alias(key_arn)))
    assert kms.describe().arn == key_arn
    assert kms.describe().enabled
    aws.kms.disable_key(KeyId=by_id(aws, key_arn))
    assert not kms.describe().enabled


class TestRewrap:
    """Rewraps from one KMS key to another, without the plaintext leaving KMS."""

    def test_rewrap_between_kms_keys_makes_one_request(self, aws: Aws, provider: Provider) -> None:
        source = provider(aws.slot("old", "aws-kms", aws.new_key()))
        target = provider(
            aws.slot("new", "aws-kms", aws.new_alias(aws.new_key()), encryption_context=True)
        )
        wrapped = source.wrap(KEK, None)
        calls = calls_of(aws.kms)
        assert source.rewrap(wrapped, None, target, MINE)
        assert [operation for operation, _ in calls] == ["ReEncrypt"]

    def test_rewrapped_kek_has_the_new_encryption_context(
        self, aws: Aws, provider: Provider
    ) -> None:
        source = provider(aws.slot("old", "aws-kms", aws.new_key()))
        key_arn = aws.new_key()
        target = provider(aws.slot("new", "aws-kms", aws.new_alias(key_arn)))
        other = EncryptionContext("mine", "moved")
        again = source.rewrap(source.wrap(KEK, MINE), MINE, target, other)
        assert again
        assert again.key_arn == key_arn
        assert target.unwrap(again, other) == KEK
        with pytest.raises(TamperedError):
            target.unwrap(again, MINE)

    def test_rewrap_with_another_encryption_context_raises(
        self, aws: Aws, provider: Provider
    ) -> None:
        source = provider(aws.slot("old", "aws-kms", aws.new_key()))
        with pytest.raises(TamperedError):
            source.rewrap(
                source.wrap(KEK, MINE), EncryptionContext("yours", "default"), source, None
            )

    @pytest.mark.parametrize(
        "code",
        [
            "AccessDeniedException",
            "DisabledException",
            "IncorrectKeyException",
            "NotFoundException",
        ],
    )
    def test_rewrap_with_an_unusable_key_returns_none(
        self, aws: Aws, provider: Provider, code: str
    ) -> None:
        kms = provider(aws.slot("old", "aws-kms", aws.new_key()))
        wrapped = kms.wrap(KEK, None)
        with Stubber(aws.kms) as stub:
            stub.add_client_error("re_encrypt", code, http_status_code=400)
            assert kms.rewrap(wrapped, None, kms, None) is None

    @pytest.mark.parametrize("code", ["InvalidCiphertextException"])
    def test_rewrap_of_a_damaged_kek_raises(self, aws: Aws, provider: Provider, code: str) -> None:
        kms = provider(aws.slot("old", "aws-kms", aws.new_key()))
        wrapped = kms.wrap(KEK, None)
        with Stubber(aws.kms) as stub:
            stub.add_client_error("re_encrypt", code, http_status_code=400)
            with pytest.raises(KekError) as caught:
                kms.rewrap(wrapped, None, kms, None)
        assert caught.value.code == code

    @pytest.mark.parametrize(
        "other",
        [
            {"region": "eu-central-1"},
            {"role_arn": "arn:aws:iam::222233334444:role/kekd"},
            {"role_arn": "arn:aws:iam::222233334444:role/kekd", "external_id": "id"},
            {"endpoint_url": "http://127.0.0.1:1"},
        ],
    )
    def test_rewrap_with_other_access_returns_none(
        self, aws: Aws, provider: Provider, other: dict[str, Any]
    ) -> None:
        slot = aws.slot("old", "aws-kms", aws.new_alias(aws.new_key()))
        source, target = provider(slot), provider(replace(slot, **other))
        wrapped = source.wrap(KEK, None)
        calls = calls_of(aws.kms)
        assert source.rewrap(wrapped, None, target, None) is None
        assert calls == []

    def test_rewrap_to_another_provider_returns_none(self, aws: Aws, provider: Provider) -> None:
        source = provider(aws.slot("old", "aws-kms", aws.new_key()))
        slot = aws.slot("new", "aws", aws.new_secret())
        target = AwsSecrets(slot, timeout=5, client=aws.secrets)
        wrapped = source.wrap(KEK, None)
        calls = calls_of(aws.kms)
        assert source.rewrap(wrapped, None, target, None) is None
        assert calls == []


class TestRotations:
    """Rotations of a key's material by KMS."""

    def test_last_rotation_of_an_unrotated_key_is_none(self, aws: Aws, provider: Provider) -> None:
        key_arn = aws.new_key()
        assert provider(aws.slot("prod", "aws-kms", key_arn)).last_rotation(key_arn) is None

    def test_last_rotation_includes_rotation_on_demand(self, aws: Aws, provider: Provider) -> None:
        key_arn = aws.new_key()
        before = int(time.time())
        aws.kms.rotate_key_on_demand(KeyId=by_id(aws, key_arn))
        rotated_at = provider(aws.slot("prod", "aws-kms", key_arn)).last_rotation(key_arn)
        assert rotated_at
        assert before <= rotated_at <= time.time()

    def test_last_rotation_reads_every_page(self, aws: Aws, provider: Provider) -> None:
        key_arn = aws.new_key()
        kms = provider(aws.slot("prod", "aws-kms", key_arn))
        dates = [datetime(2026, month, 1, tzinfo=UTC) for month in (2, 3, 1)]
        pages = [[{"KeyId": "k", "RotationDate": date}] for date in dates]
        with Stubber(aws.kms) as stub:
            for number, page in enumerate(pages):
                is_last = number == len(pages) - 1
                more = {} if is_last else {"NextMarker": str(number)}
                asked = {"Marker": str(number - 1)} if number else {}
                stub.add_response(
                    "list_key_rotations",
                    {"Rotations": page, "Truncated": not is_last, **more},
                    {"KeyId": key_arn, **asked},
                )
            assert kms.last_rotation(key_arn) == dates[1].timestamp()
            stub.assert_no_pending_responses()

    def test_last_rotation_of_an_unrotatable_key_is_none(
        self, aws: Aws, provider: Provider
    ) -> None:
        kms = provider(aws.slot("prod", "aws-kms", aws.new_key()))
        with Stubber(aws.kms) as stub:
            stub.add_client_error(
                "list_key_rotations", "UnsupportedOperationException", http_status_code=400
            )
            assert kms.last_rotation("key") is None

    def test_describe_of_a_key_pending_deletion_has_its_date(
        self, aws: Aws, provider: Provider
    ) -> None:
        key_arn = aws.new_key()
        kms = provider(aws.slot("prod", "aws-kms", aws.new_alias(key_arn)))
        answer = aws.kms.schedule_key_deletion(KeyId=by_id(aws, key_arn), PendingWindowInDays=7)
        described = kms.describe()
        assert (described.enabled, described.state) == (False, "PendingDeletion")
        assert described.deletion_time == int(answer["DeletionDate"].timestamp())
