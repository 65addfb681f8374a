"""No key bytes in any repr, error, traceback or log."""

import base64
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.stub import Stubber

from kekd.kek import Registry, Slot, WrappedKek
from kekd.kek.aws.kms import AwsKms
from kekd.kek.aws.secrets import AwsSecrets
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import InvalidKekError, KekError
from kekd.kek.provider import require_kek_bytes, scrub
from tests.fixtures.kms import Aws
from tests.patience import PATIENCE
from tests.unit.kek.chains import chain

KEK = b"plaintext-kek-canary-0123456789a"
SECRET = b"secret-value-canary-0123456789ab"
CIPHERTEXT = b"wrapped-kek-canary-" * 4
MINE = EncryptionContext("mine", "default")
CANARIES = (KEK, SECRET, CIPHERTEXT)


def holds_no_canary(text: str, *more: bytes) -> bool:
    traces = [
        trace
        for canary in (*CANARIES, *more)
        for trace in (
            repr(canary)[2:14],
            canary.hex()[:16],
            base64.b64encode(canary).decode()[:12],
            ", ".join(map(str, canary[:6])),
        )
    ]
    return not any(trace in text for trace in traces)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The logs of all loggers, at INFO: at DEBUG, botocore logs the requests."""
    with caplog.at_level(logging.INFO):
        yield caplog


def kms_of(aws: Aws, key_id: str | None = None) -> AwsKms:
    return AwsKms(aws.slot("prod", "aws-kms", key_id or aws.new_key()), timeout=PATIENCE)


def secrets_of(aws: Aws, value: bytes = SECRET) -> AwsSecrets:
    return AwsSecrets(aws.slot("prod", "aws", aws.new_secret(value)), timeout=PATIENCE)


@pytest.mark.parametrize("make", [kms_of, secrets_of])
def test_wrap_and_unwrap_leak_no_key_bytes(
    aws: Aws, log: pytest.LogCaptureFixture, make: Callable[[Aws], AwsKms | AwsSecrets]
) -> None:
    provider = make(aws)
    wrapped = provider.wrap(KEK, MINE)
    assert provider.unwrap(wrapped, MINE) == KEK
    shown = [provider, wrapped, provider.slot, provider.describe(), provider.__dict__, MINE]
    # Moto's ciphertext begins with the key's id, which is no secret.
    ciphertext = wrapped.wrapped_kek[36:]
    for text in [*shown, log.text]:
        assert holds_no_canary(f"{text!r}{text}", ciphertext)


def test_registry_leaks_no_key_bytes(aws: Aws) -> None:
    slot = aws.slot("prod", "aws", aws.new_secret(SECRET))
    registry = Registry({"prod": slot})
    registry._providers.for_slot(slot).wrap(KEK, None)
    assert holds_no_canary(f"{registry!r}{vars(registry)}{vars(registry._providers)}")


def wrong_kek(aws: Aws) -> None:
    kms_of(aws).wrap(KEK + b"x", None)


def wrong_type_of_kek(aws: Aws) -> None:
    kms_of(aws).wrap(KEK.decode(), None)  # type: ignore[arg-type]


def wrong_kek_for_a_secret(aws: Aws) -> None:
    secrets_of(aws).wrap(KEK[:-1], None)


def wrong_size_of_secret(aws: Aws) -> None:
    secrets_of(aws, SECRET + b"x").wrap(KEK, None)


def secret_that_is_not_base64(aws: Aws) -> None:
    secrets = secrets_of(aws)
    aws.secrets.put_secret_value(SecretId=secrets.slot.key_id, SecretString=SECRET.decode())
    secrets.wrap(KEK, None)


def tampered(aws: Aws) -> None:
    secrets_of(aws).unwrap(WrappedKek(CIPHERTEXT[:60]), None)


def no_ciphertext(aws: Aws) -> None:
    kms_of(aws).unwrap(WrappedKek(CIPHERTEXT), None)


def wrong_context(aws: Aws) -> None:
    kms = kms_of(aws)
    kms.unwrap(kms.wrap(KEK, MINE), EncryptionContext("yours", "default"))


def no_such_key(aws: Aws) -> None:
    kms_of(aws, "alias/nowhere").wrap(KEK, MINE)


def refused_argument(aws: Aws) -> None:
    kms_of(aws).unwrap(WrappedKek([CIPHERTEXT]), None)  # type: ignore[arg-type]


def other_plaintext(aws: Aws) -> None:
    kms = kms_of(aws)
    answer = aws.kms.encrypt(KeyId=kms.slot.key_id, Plaintext=KEK + SECRET)
    kms.unwrap(WrappedKek(answer["CiphertextBlob"]), None)


def no_server(aws: Aws) -> None:
    slot = Slot("prod", "aws-kms", "k", "us-east-1", endpoint_url="http://127.0.0.1:1")
    AwsKms(slot, timeout=0).wrap(KEK, MINE)


def throttled(aws: Aws) -> None:
    kms = kms_of(aws)
    with Stubber(kms._client) as stub:
        stub.add_client_error("encrypt", "ThrottlingException", http_status_code=400)
        AwsKms(kms.slot, timeout=0, client=kms._client).wrap(KEK, MINE)


@pytest.mark.parametrize(
    "fail",
    [
        wrong_kek,
        wrong_type_of_kek,
        wrong_kek_for_a_secret,
        wrong_size_of_secret,
        secret_that_is_not_base64,
        tampered,
        no_ciphertext,
        wrong_context,
        no_such_key,
        refused_argument,
        other_plaintext,
        no_server,
        throttled,
    ],
)
def test_errors_leak_no_key_bytes(
    aws: Aws, log: pytest.LogCaptureFixture, fail: Callable[[Aws], None]
) -> None:
    with pytest.raises(KekError) as caught:
        fail(aws)
    error = caught.value
    printed = "".join(traceback.format_exception(error))
    kept = "".join(f"{cause!r}{cause.args}{vars(cause)}" for cause in chain(error))
    assert holds_no_canary(f"{printed}{kept}{log.text}")


@pytest.mark.parametrize("size", [0, 1, 16, 31, 33, 64])
def test_kek_of_another_size_raises(size: int) -> None:
    with pytest.raises(InvalidKekError, match=f"expected 32 bytes, got {size}"):
        require_kek_bytes(bytes(size))


@pytest.mark.parametrize("kek", ["k" * 32, memoryview(bytes(32)), [0] * 32, 32, None])
def test_kek_of_another_type_raises(kek: Any) -> None:
    with pytest.raises(InvalidKekError, match=f"expected 32 bytes, got {type(kek).__name__}"):
        require_kek_bytes(kek)


@pytest.mark.parametrize("make", [kms_of, secrets_of])
def test_invalid_kek_makes_no_request(aws: Aws, make: Callable[[Aws], AwsKms | AwsSecrets]) -> None:
    provider = make(aws)
    for kek in (KEK[:31], KEK + b"x", b"", KEK.decode(), None):
        with pytest.raises(InvalidKekError):
            provider.wrap(kek, None)  # type: ignore[arg-type]


def test_scrub_overwrites_the_kek_in_place() -> None:
    kek = bytearray(KEK)
    view = memoryview(kek)
    scrub(kek)
    assert bytes(view) == bytes(32)
