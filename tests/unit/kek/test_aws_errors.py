"""Errors of AWS. The codes come from botocore's Stubber, because moto doesn't have all of them.

The codes are from botocore's models of the operations, which the last test checks, and from the
common errors of AWS (https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html).
"""

import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
import tenacity
from botocore.stub import Stubber

from kekd.kek import Slot, WrappedKek, errors
from kekd.kek.aws.kms import AwsKms
from kekd.kek.aws.secrets import AwsSecrets
from kekd.kek.errors import KekError
from tests.fixtures.kms import Aws, calls_of
from tests.fixtures.s3 import free_port
from tests.patience import PATIENCE
from tests.unit.kek.clock import AdvancingClock

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient
    from types_boto3_secretsmanager import SecretsManagerClient

KEK = bytes(32)
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SLOT = Slot("prod", "aws-kms", KEY, "us-east-1")
SECRET = Slot("prod", "aws", "wrap-key", "us-east-1")
BAD_REQUEST = 400

WHAT_IT_MEANS: dict[str, type[KekError]] = {
    # KMS
    "DependencyTimeoutException": errors.ProviderUnavailableError,
    "DisabledException": errors.KeyDisabledError,
    "IncorrectKeyException": errors.WrongKeyError,
    "InvalidArnException": errors.KeyNotFoundError,
    "InvalidCiphertextException": errors.TamperedError,
    "InvalidKeyUsageException": KekError,
    "KMSInternalException": errors.ProviderUnavailableError,
    "KMSInvalidStateException": errors.KeyDisabledError,
    "KeyUnavailableException": errors.ProviderUnavailableError,
    "NotFoundException": errors.KeyNotFoundError,
    # Secrets Manager
    "DecryptionFailure": errors.AccessDeniedError,
    "EncryptionFailure": errors.AccessDeniedError,
    "InternalServiceError": errors.ProviderUnavailableError,
    "InvalidParameterException": KekError,
    "InvalidRequestException": KekError,
    "LimitExceededException": errors.ThrottledError,
    "ResourceExistsException": errors.SecretExistsError,
    "ResourceNotFoundException": errors.SecretNotFoundError,
    # STS
    "ExpiredTokenException": errors.ExpiredCredentialsError,
    "RegionDisabledException": KekError,
    # common
    "AccessDenied": errors.AccessDeniedError,
    "AccessDeniedException": errors.AccessDeniedError,
    "ExpiredToken": errors.ExpiredCredentialsError,
    "IncompleteSignature": errors.CredentialsError,
    "InvalidClientTokenId": errors.CredentialsError,
    "InvalidSignatureException": errors.CredentialsError,
    "RequestExpired": errors.ExpiredCredentialsError,
    "RequestLimitExceeded": errors.ThrottledError,
    "SignatureDoesNotMatch": errors.CredentialsError,
    "Throttling": errors.ThrottledError,
    "ThrottlingException": errors.ThrottledError,
    "TooManyRequestsException": errors.ThrottledError,
    "UnrecognizedClientException": errors.CredentialsError,
    "ValidationException": KekError,
    "SomethingNewException": KekError,
}
NOT_KNOWN_YET: dict[str, type[KekError]] = {
    "NotAuthorized": errors.AccessDeniedError,
    "MissingAuthenticationTokenException": errors.CredentialsError,
    "RequestTimeoutException": errors.ProviderUnavailableError,
    "RequestThrottledException": errors.ThrottledError,
}


@pytest.fixture
def kms(aws_credentials: dict[str, str]) -> "KMSClient":
    return boto3.client("kms", region_name="us-east-1")


@pytest.fixture
def secrets(aws_credentials: dict[str, str]) -> "SecretsManagerClient":
    return boto3.client("secretsmanager", region_name="us-east-1")


@pytest.fixture
def nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


def failing(kms: "KMSClient", code: str, message: str = "", status: int = BAD_REQUEST) -> KekError:
    """Returns the error of a call that has no time for retries."""
    with Stubber(kms) as stub:
        stub.add_client_error("decrypt", code, message, status)
        with pytest.raises(KekError) as caught:
            AwsKms(SLOT, timeout=0, client=kms).unwrap(WrappedKek(b"wrapped"), None)
    return caught.value


@pytest.mark.parametrize(("code", "kind"), WHAT_IT_MEANS.items())
def test_error_code_raises_its_class(kms: "KMSClient", code: str, kind: type[KekError]) -> None:
    error = failing(kms, code)
    assert type(error) is kind
    assert (error.code, error.slot, error.key_id) == (code, "prod", KEY)
    assert code in str(error)
    assert KEY in str(error)
    assert "endpoint 'https://kms.us-east-1.amazonaws.com'" in str(error)


@pytest.mark.parametrize(("code", "kind"), NOT_KNOWN_YET.items())
def test_common_error_code_raises_its_class(
    kms: "KMSClient", code: str, kind: type[KekError]
) -> None:
    assert type(failing(kms, code)) is kind


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("KMSInvalidStateException", f"{KEY} is pending deletion."),
        # https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html: either code.
        ("DisabledException", f"{KEY} is pending deletion."),
        (
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion.",
        ),
        ("InvalidRequestException", "A secret with this name is already scheduled for deletion."),
    ],
)
def test_state_error_about_deletion_raises_pending_deletion(
    kms: "KMSClient", code: str, message: str
) -> None:
    error = failing(kms, code, message)
    assert type(error) is errors.KeyPendingDeletionError
    assert error.code == code


@pytest.mark.parametrize("state", ["is pending import.", "is unavailable.", "is creating."])
def test_other_state_error_raises_key_disabled(kms: "KMSClient", state: str) -> None:
    error = failing(kms, "KMSInvalidStateException", f"{KEY} {state}")
    assert not isinstance(error, errors.KeyPendingDeletionError)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (
            "AccessDeniedException",
            "User: arn:aws:iam::1:user/deletion-bot is not authorized to perform: kms:Decrypt",
            errors.AccessDeniedError,
        ),
        (
            "NotFoundException",
            "Alias arn:aws:kms:us-east-1:123456789012:alias/deletion-log is not found.",
            errors.KeyNotFoundError,
        ),
    ],
)
def test_key_name_about_deletion_changes_nothing(
    kms: "KMSClient", code: str, message: str, kind: type[KekError]
) -> None:
    assert type(failing(kms, code, message)) is kind


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("code", ["InternalFailure", "ServiceUnavailable", "", str(503)])
def test_server_error_raises_provider_unavailable(kms: "KMSClient", code: str, status: int) -> None:
    assert type(failing(kms, code, status=status)) is errors.ProviderUnavailableError


def test_status_429_without_a_code_raises_throttled(kms: "KMSClient") -> None:
    assert type(failing(kms, "429", status=429)) is errors.ThrottledError


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "KMSInternalException", "KeyUnavailableException"]
)
def test_transient_error_is_retried(kms: "KMSClient", code: str) -> None:
    with Stubber(kms) as stub:
        for _ in range(3):
            stub.add_client_error("encrypt", code, http_status_code=BAD_REQUEST)
        stub.add_response("encrypt", {"CiphertextBlob": b"wrapped", "KeyId": KEY})
        wrapped = AwsKms(SLOT, timeout=10, client=kms).wrap(KEK, None)
    assert wrapped == WrappedKek(b"wrapped", KEY)


def test_transient_error_at_the_timeout_raises(
    kms: "KMSClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = AdvancingClock()
    for module in (tenacity, tenacity.nap):
        monkeypatch.setattr(module, "time", clock)
    with Stubber(kms) as stub:
        for _ in range(200):
            stub.add_client_error("encrypt", "ThrottlingException", http_status_code=BAD_REQUEST)
        calls = calls_of(kms)
        with pytest.raises(errors.ThrottledError):
            AwsKms(SLOT, timeout=2, client=kms).wrap(KEK, None)
    assert len(calls) > 1
    assert sum(clock.slept) < 2


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "DisabledException", "NotFoundException"]
)
def test_permanent_error_is_not_retried(kms: "KMSClient", code: str) -> None:
    with Stubber(kms) as stub:
        for _ in range(10):
            stub.add_client_error("decrypt", code, http_status_code=BAD_REQUEST)
        calls = calls_of(kms)
        with pytest.raises(KekError):
            AwsKms(SLOT, timeout=1, client=kms).unwrap(WrappedKek(b"wrapped"), None)
    assert len(calls) == 1


@pytest.fixture
def silence() -> Iterator[str]:
    """The address of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.external
def test_silent_server_raises_at_the_timeout(aws_credentials: dict[str, str], silence: str) -> None:
    kms = AwsKms(Slot("prod", "aws-kms", KEY, endpoint_url=silence), timeout=1)
    start = time.monotonic()
    with pytest.raises(errors.ProviderUnavailableError) as caught:
        kms.wrap(KEK, None)
    assert caught.value.code == "ReadTimeoutError"
    assert time.monotonic() - start < PATIENCE


@pytest.mark.external
def test_refused_connection_raises_provider_unavailable(aws_credentials: dict[str, str]) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    kms = AwsKms(Slot("prod", "aws-kms", KEY, endpoint_url=nobody), timeout=0.1)
    with pytest.raises(errors.ProviderUnavailableError) as caught:
        kms.wrap(KEK, None)
    assert caught.value.code == "EndpointConnectionError"


@pytest.mark.external
def test_request_without_credentials_raises(aws: Aws, nothing_configured: None) -> None:
    kms = AwsKms(aws.slot("prod", "aws-kms", KEY), timeout=5)
    with pytest.raises(errors.CredentialsError) as caught:
        kms.wrap(KEK, None)
    assert caught.value.code == "NoCredentialsError"


def test_role_without_own_credentials_raises(aws: Aws, nothing_configured: None) -> None:
    role = "arn:aws:iam::222233334444:role/kekd"
    with pytest.raises(errors.CredentialsUnavailableError):
        AwsKms(aws.slot("prod", "aws-kms", KEY, role_arn=role), timeout=5).wrap(KEK, None)


def test_partial_credentials_raise(
    aws: Aws, nothing_configured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    with pytest.raises(errors.CredentialsError) as caught:
        AwsKms(aws.slot("prod", "aws-kms", KEY), timeout=5).wrap(KEK, None)
    assert caught.value.code == "PartialCredentialsError"


def test_request_without_a_region_raises(nothing_configured: None) -> None:
    with pytest.raises(errors.RegionMismatchError, match="set region in the slot") as caught:
        AwsKms(Slot("prod", "aws-kms", "alias/prod"), timeout=5)
    assert caught.value.code == "NoRegionError"


def test_unknown_profile_raises_credentials_unavailable(
    nothing_configured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    with pytest.raises(errors.CredentialsUnavailableError, match=r"\(nowhere\) could not be found"):
        AwsKms(SLOT, timeout=5)


def test_invalid_argument_raises(kms: "KMSClient") -> None:
    with pytest.raises(KekError) as caught:
        AwsKms(SLOT, timeout=5, client=kms).unwrap(WrappedKek([1234]), None)  # type: ignore[arg-type]
    assert caught.value.code == "ParamValidationError"


@pytest.mark.parametrize(("code", "kind"), WHAT_IT_MEANS.items())
def test_error_of_secrets_manager_uses_the_same_table(
    secrets: "SecretsManagerClient", code: str, kind: type[KekError]
) -> None:
    with Stubber(secrets) as stub:
        stub.add_client_error("get_secret_value", code, http_status_code=BAD_REQUEST)
        with pytest.raises(KekError) as caught:
            AwsSecrets(SECRET, timeout=0, client=secrets).wrap(KEK, None)
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.key_id) == (code, "wrap-key")
