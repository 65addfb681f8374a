"""Provider `aws`, partly on moto's Secrets Manager."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, cast

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cyborgdb_service.kms.base import KMSError  # type: ignore[import-untyped]
from cyborgdb_service.kms.providers.aws import AWSSecretsProvider  # type: ignore[import-untyped]

from kekd.kek import Slot, WrappedKek
from kekd.kek.aws.secrets import AwsSecrets
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import (
    InvalidSecretError,
    KeyNotAllowedError,
    KeyPendingDeletionError,
    SecretExistsError,
    SecretNotFoundError,
    TamperedError,
)
from tests.fixtures.kms import Aws, calls_of
from tests.vectors import make_aes_gcm

VECTORS: Final = json.loads(make_aes_gcm.PATH.read_text())["vectors"]
KEK: Final = bytes(range(32))
SECRET: Final = bytes(range(100, 132))
MINE: Final = EncryptionContext("mine", "default")

Provider = Callable[[str], AwsSecrets]
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])


class OneSecret:
    """A Secrets Manager that answers at once."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def get_secret_value(self, SecretId: str) -> dict[str, Any]:  # noqa: N803  (as boto3 has it)
        return {"ARN": f"arn:aws:secretsmanager:::secret:{SecretId}", "SecretBinary": self._value}


def under(secret: bytes) -> AwsSecrets:
    slot = Slot("prod", "aws", "wrap-key")
    return AwsSecrets(slot, timeout=5, client=cast("Any", OneSecret(secret)))


@pytest.fixture
def provider(aws: Aws) -> Provider:
    return lambda secret: AwsSecrets(aws.slot("prod", "aws", secret), timeout=5, client=aws.secrets)


@each_vector
def test_vector_has_its_stated_result(vector: dict[str, Any]) -> None:
    secrets = under(bytes.fromhex(vector["key"]))
    wrapped = WrappedKek(bytes.fromhex(vector["wrapped"]))
    if vector["error"]:
        with pytest.raises(TamperedError) as caught:
            secrets.unwrap(wrapped, None)
        assert type(caught.value).__name__ == vector["error"]
    else:
        assert secrets.unwrap(wrapped, None).hex() == vector["plaintext"]


@each_vector
def test_vector_of_another_size_is_refused_for_its_size(vector: dict[str, Any]) -> None:
    record = bytes.fromhex(vector["wrapped"])
    cipher = AESGCM(bytes.fromhex(vector["key"]))
    if vector["plaintext"] is None:
        with pytest.raises(InvalidTag):
            cipher.decrypt(record[:12], record[12:], None)
    else:
        assert cipher.decrypt(record[:12], record[12:], None).hex() == vector["plaintext"]


def test_vectors_cover_every_result() -> None:
    opens = [vector for vector in VECTORS if not vector["error"]]
    forged = [vector for vector in VECTORS if vector["plaintext"] is None]
    assert (len(opens), len(forged), len(VECTORS)) == (24, 8, 53)


def test_bound_kek_has_the_documented_layout() -> None:
    bound = b'{"index_name":"mine","store":"default"}'
    record = bytes(12) + AESGCM(SECRET).encrypt(bytes(12), KEK, bound)
    assert under(SECRET).unwrap(WrappedKek(record), MINE) == KEK


def test_each_wrap_has_a_new_nonce() -> None:
    secrets = under(SECRET)
    nonces = {secrets.wrap(KEK, None).wrapped_kek[:12] for _ in range(100)}
    assert len(nonces) == 100


@pytest.mark.parametrize("binding", [None, MINE])
@pytest.mark.parametrize("kek", [KEK, bytearray(KEK)], ids=["bytes", "bytearray"])
def test_unwrap_returns_the_wrapped_kek(
    aws: Aws, provider: Provider, binding: EncryptionContext | None, kek: bytes | bytearray
) -> None:
    secrets = provider(aws.new_secret())
    wrapped = secrets.wrap(kek, binding)
    assert wrapped.key_arn == ""
    opened = secrets.unwrap(wrapped, binding)
    assert opened == KEK
    assert isinstance(opened, bytearray)  # so that its owner can overwrite it


def test_secret_can_be_named_by_its_arn(aws: Aws, provider: Provider) -> None:
    name = aws.new_secret()
    arn = aws.secrets.describe_secret(SecretId=name)["ARN"]
    assert provider(arn).unwrap(provider(name).wrap(KEK, None), None) == KEK


@pytest.mark.parametrize(
    ("bound", "other"),
    [
        (MINE, None),
        (None, MINE),
        (MINE, EncryptionContext("yours", "default")),
        (MINE, EncryptionContext("mine", "other")),
    ],
)
def test_unwrap_with_another_encryption_context_raises(
    bound: EncryptionContext | None, other: EncryptionContext | None
) -> None:
    wrapped = under(SECRET).wrap(KEK, bound)
    with pytest.raises(TamperedError):
        under(SECRET).unwrap(wrapped, other)


def test_unwrap_with_another_secret_raises() -> None:
    with pytest.raises(TamperedError):
        under(SECRET).unwrap(under(bytes(32)).wrap(KEK, None), None)


def test_unwrap_with_a_flipped_bit_raises() -> None:
    wrapped = under(SECRET).wrap(KEK, None).wrapped_kek
    for bit in range(8 * len(wrapped)):
        record = bytearray(wrapped)
        record[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TamperedError):
            under(SECRET).unwrap(WrappedKek(bytes(record)), None)


def test_unwrap_of_another_length_raises() -> None:
    wrapped = under(SECRET).wrap(KEK, None).wrapped_kek
    parts = [wrapped[:size] for size in range(len(wrapped))]
    longer = [wrapped + b"\0", b"\0" + wrapped, wrapped * 2, wrapped + bytes(6144)]
    for record in parts + longer:
        with pytest.raises(TamperedError) as caught:
            under(SECRET).unwrap(WrappedKek(record), None)
    assert (caught.value.slot, caught.value.key_id) == ("prod", "wrap-key")


def test_base64_secret_is_decoded(aws: Aws, provider: Provider) -> None:
    text, binary = aws.new_secret(), aws.new_secret(SECRET)
    aws.secrets.delete_secret(SecretId=text, ForceDeleteWithoutRecovery=True)
    aws.secrets.create_secret(Name=text, SecretString=base64.b64encode(SECRET).decode())
    assert provider(text).unwrap(provider(binary).wrap(KEK, None), None) == KEK


@pytest.mark.parametrize(
    "value",
    [
        {"SecretBinary": SECRET[:31]},
        {"SecretBinary": SECRET[:16]},  # an AES key, but not one of AES-256
        {"SecretBinary": SECRET + b"\0"},
        {"SecretBinary": base64.b64encode(SECRET)},
        {"SecretString": base64.b64encode(SECRET[:31]).decode()},
        {"SecretString": base64.b64encode(SECRET).decode() + "\n"},
        {"SecretString": base64.b64encode(SECRET).decode().rstrip("=")},
        {"SecretString": SECRET.hex()},
        {"SecretString": '{"key": "value"}'},
        {"SecretString": "schlüssel"},
    ],
)
def test_secret_of_another_length_raises(
    aws: Aws, provider: Provider, value: dict[str, Any]
) -> None:
    name = aws.new_secret()
    aws.secrets.put_secret_value(SecretId=name, **value)
    secrets = provider(name)
    with pytest.raises(InvalidSecretError) as caught:
        secrets.wrap(KEK, None)
    with pytest.raises(InvalidSecretError):
        secrets.unwrap(WrappedKek(bytes(60)), None)
    assert (caught.value.slot, caught.value.key_id) == ("prod", name)


def test_missing_secret_raises_and_is_not_created(aws: Aws, provider: Provider) -> None:
    secrets = provider("nowhere")
    calls = calls_of(aws.secrets)
    with pytest.raises(SecretNotFoundError) as caught:
        secrets.wrap(KEK, None)
    with pytest.raises(SecretNotFoundError):
        secrets.unwrap(WrappedKek(bytes(60)), None)
    with pytest.raises(SecretNotFoundError):
        secrets.describe()
    assert "create-secret" in str(caught.value)
    assert [operation for operation, _ in calls] == ["GetSecretValue"] * 2 + ["DescribeSecret"]
    names = {secret["Name"] for page in pages(aws) for secret in page["SecretList"]}
    assert "nowhere" not in names


def pages(aws: Aws) -> Any:
    return aws.secrets.get_paginator("list_secrets").paginate()


def test_secret_pending_deletion_raises(aws: Aws, provider: Provider) -> None:
    name = aws.new_secret()
    assert provider(name).describe().enabled
    aws.secrets.delete_secret(SecretId=name)
    with pytest.raises(KeyPendingDeletionError):
        provider(name).wrap(KEK, None)
    assert not provider(name).describe().enabled


def test_secret_is_read_for_each_call(aws: Aws, provider: Provider) -> None:
    name = aws.new_secret()
    secrets = provider(name)
    wrapped = secrets.wrap(KEK, None)
    aws.secrets.put_secret_value(SecretId=name, SecretBinary=SECRET)
    with pytest.raises(TamperedError):
        secrets.unwrap(wrapped, None)


def test_forbidden_secret_raises(aws: Aws, provider: Provider) -> None:
    name = aws.new_secret()
    open_to_any = provider(name)
    another_of_its_name = f"arn:aws:secretsmanager:*:secret:{name}-------"
    slot = replace(open_to_any.slot, allowed_key_arns=(another_of_its_name,))
    strict = AwsSecrets(slot, timeout=5, client=aws.secrets)
    with pytest.raises(KeyNotAllowedError):
        strict.wrap(KEK, None)
    with pytest.raises(KeyNotAllowedError):
        strict.unwrap(open_to_any.wrap(KEK, None), None)


def test_create_makes_the_secret(aws: Aws, provider: Provider) -> None:
    name = aws.new_secret()
    aws.secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    secrets = provider(name)
    arn = secrets.create()
    assert secrets.describe().arn == arn
    assert len(aws.secrets.get_secret_value(SecretId=arn)["SecretBinary"]) == 32
    assert secrets.unwrap(secrets.wrap(KEK, None), None) == KEK


def test_create_of_an_existing_secret_raises_and_changes_nothing(
    aws: Aws, provider: Provider
) -> None:
    name = aws.new_secret(SECRET)
    with pytest.raises(SecretExistsError):
        provider(name).create()
    assert aws.secrets.get_secret_value(SecretId=name)["SecretBinary"] == SECRET


class TestCyborgDBService:
    """The service and the provider unwrap each other's KEKs."""

    @pytest.fixture
    def peer(self, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> AWSSecretsProvider:
        peer = AWSSecretsProvider(aws.new_secret(), "us-east-1")
        monkeypatch.setattr(peer._creds, "get_client", lambda _service: aws.secrets)
        return peer

    def test_kekd_unwraps_what_the_service_wraps(
        self, peer: AWSSecretsProvider, provider: Provider
    ) -> None:
        assert provider(peer.secret_name).unwrap(WrappedKek(peer.wrap(KEK)), None) == KEK

    def test_service_unwraps_what_kekd_wraps(
        self, peer: AWSSecretsProvider, provider: Provider
    ) -> None:
        assert peer.unwrap(provider(peer.secret_name).wrap(KEK, None).wrapped_kek) == KEK

    def test_service_does_not_unwrap_a_bound_kek(
        self, peer: AWSSecretsProvider, provider: Provider
    ) -> None:
        wrapped = provider(peer.secret_name).wrap(KEK, MINE).wrapped_kek
        with pytest.raises(KMSError):
            peer.unwrap(wrapped)

    def test_both_use_a_secret_that_the_other_created(
        self, aws: Aws, peer: AWSSecretsProvider, provider: Provider
    ) -> None:
        aws.secrets.delete_secret(SecretId=peer.secret_name, ForceDeleteWithoutRecovery=True)
        peer.create_wrap_key()
        assert provider(peer.secret_name).unwrap(WrappedKek(peer.wrap(KEK)), None) == KEK
        aws.secrets.delete_secret(SecretId=peer.secret_name, ForceDeleteWithoutRecovery=True)
        secrets = provider(peer.secret_name)
        secrets.create()
        assert peer.unwrap(secrets.wrap(KEK, None).wrapped_kek) == KEK
