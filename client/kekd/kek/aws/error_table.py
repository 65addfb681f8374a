"""Translates the exceptions of botocore and the error codes of AWS to `KekError`."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from botocore.exceptions import (
    ClientError,
    ConnectionError,  # noqa: A004  (botocore's, not Python's)
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
)

from kekd.kek import errors
from kekd.kek.errors import KekError
from kekd.kek.slot import Slot
from kekd_common.aws_credentials import CredentialSourceError, sentence

_UNTRUSTED: Final = re.compile(r"certificate verify failed: (.+?) \(_ssl")
_SERVER_ERROR: Final = 500
_TOO_MANY_REQUESTS: Final = 429

_STATE_CODES: Final = {"DisabledException", "InvalidRequestException", "KMSInvalidStateException"}
"""Codes that AWS also uses for pending deletion. Only the message distinguishes it."""
_BY_CODE: Final[Mapping[str, type[KekError]]] = {
    "AccessDenied": errors.AccessDeniedError,
    "AccessDeniedException": errors.AccessDeniedError,
    "DecryptionFailure": errors.AccessDeniedError,
    "DependencyTimeoutException": errors.ProviderUnavailableError,
    "DisabledException": errors.KeyDisabledError,
    "EncryptionFailure": errors.AccessDeniedError,
    "ExpiredToken": errors.ExpiredCredentialsError,
    "ExpiredTokenException": errors.ExpiredCredentialsError,
    "IncompleteSignature": errors.CredentialsError,
    "IncorrectKeyException": errors.WrongKeyError,
    "InternalServiceError": errors.ProviderUnavailableError,
    "InvalidArnException": errors.KeyNotFoundError,
    "InvalidCiphertextException": errors.TamperedError,
    "InvalidClientTokenId": errors.CredentialsError,
    "InvalidSignatureException": errors.CredentialsError,
    "KMSInternalException": errors.ProviderUnavailableError,
    "KMSInvalidStateException": errors.KeyDisabledError,
    "KeyUnavailableException": errors.ProviderUnavailableError,
    "LimitExceededException": errors.ThrottledError,
    "MissingAuthenticationToken": errors.CredentialsError,
    "MissingAuthenticationTokenException": errors.CredentialsError,
    "NotAuthorized": errors.AccessDeniedError,
    "NotFoundException": errors.KeyNotFoundError,
    "OptInRequired": errors.AccessDeniedError,
    "RequestExpired": errors.ExpiredCredentialsError,
    "RequestLimitExceeded": errors.ThrottledError,
    "RequestThrottled": errors.ThrottledError,
    "RequestThrottledException": errors.ThrottledError,
    "RequestTimeout": errors.ProviderUnavailableError,
    "RequestTimeoutException": errors.ProviderUnavailableError,
    "ResourceExistsException": errors.SecretExistsError,
    "ResourceNotFoundException": errors.SecretNotFoundError,
    "SignatureDoesNotMatch": errors.CredentialsError,
    "SlowDown": errors.ThrottledError,
    "ThrottledException": errors.ThrottledError,
    "Throttling": errors.ThrottledError,
    "ThrottlingException": errors.ThrottledError,
    "TooManyRequestsException": errors.ThrottledError,
    "UnrecognizedClientException": errors.CredentialsError,
}
"""From the error lists of kms.Encrypt, Decrypt and ReEncrypt, secretsmanager.GetSecretValue and
sts.AssumeRole, and from AWS's common errors
(https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html)."""

_ADVICE: Final[Mapping[type[KekError], str]] = {
    KekError: "request failed: AWS or its client refused it; see the error code",
    errors.AccessDeniedError: (
        "access denied by AWS; check the caller's IAM policy, the policy of the key, secret or"
        " role, and the account and region"
    ),
    errors.CredentialsError: (
        "invalid AWS credentials; set them in the environment, a profile or an instance role"
    ),
    errors.CredentialsUnavailableError: (
        "no AWS credentials available; set them in the environment, a profile or an instance role"
    ),
    errors.ExpiredCredentialsError: "expired AWS credentials; renew them",
    errors.KeyDisabledError: "cannot use key: it is disabled or not ready; enable it in KMS",
    errors.KeyNotFoundError: "key not found; check its id or alias, the region and the account",
    errors.KeyPendingDeletionError: (
        "cannot use key or secret: it is pending deletion; cancel the deletion in AWS"
    ),
    errors.ProviderUnavailableError: "AWS is unreachable or failing; retry later",
    errors.RegionMismatchError: "unknown AWS region; set region in the slot",
    errors.SecretExistsError: (
        "cannot create secret: it already exists, and is unchanged; use it, or give the slot"
        " another key_id"
    ),
    errors.SecretNotFoundError: (
        "secret not found; check its name, the region and the account, or create it with"
        " 'kekctl kms create-secret'"
    ),
    errors.TamperedError: (
        "cannot unwrap KEK: the wrapped KEK or its encryption context was modified; restore the"
        " envelope"
    ),
    errors.ThrottledError: "request rate limited by AWS; retry later, or lower the rate",
    errors.WrongKeyError: (
        "cannot unwrap KEK: another key wrapped it; restore the envelope's key_id and key_arn"
    ),
}

_WITH_DETAILS: Final = {errors.AccessDeniedError, errors.CredentialsUnavailableError}
"""Their details name the denied action, or the credential sources that were tried."""

_BY_EXCEPTION: Final[Sequence[tuple[tuple[type[Exception], ...], type[KekError]]]] = (
    ((NoRegionError,), errors.RegionMismatchError),
    (
        (
            CredentialRetrievalError,
            CredentialSourceError,
            NoCredentialsError,
            PartialCredentialsError,
            ProfileNotFound,
        ),
        errors.CredentialsUnavailableError,
    ),
    # Raised for new credentials that have already expired: a clock is wrong.
    ((RuntimeError,), errors.ExpiredCredentialsError),
    ((ConnectionError, HTTPClientError), errors.ProviderUnavailableError),
)
"""Any other exception is about the configuration of boto3."""


def to_kek_error(error: Exception, slot: Slot, endpoint: str = "") -> KekError:
    if isinstance(error, ClientError):
        code = error.response["Error"].get("Code", "")
        kind = _error_class(error, code)
    else:
        code = error.code if isinstance(error, CredentialSourceError) else type(error).__name__
        kind = next((kind for kinds, kind in _BY_EXCEPTION if isinstance(error, kinds)), KekError)
    text = _ADVICE[kind]
    if isinstance(error, SSLError):
        text += _describe_tls_error(str(error))
    elif isinstance(error, (ConnectionError, HTTPClientError)) or kind in _WITH_DETAILS:
        text = f"{text} ({sentence(error)})"
    return kind(text, slot=slot.name, key_id=slot.key_id, code=code, endpoint=endpoint)


def _describe_tls_error(text: str) -> str:
    """Returns the cause in OpenSSL's message, and what to do."""
    if untrusted := _UNTRUSTED.search(text):
        return (
            f" (untrusted certificate: {untrusted[1]}); if your own CA issued its certificate, set"
            " AWS_CA_BUNDLE to that CA's file"
        )
    if "WRONG_VERSION_NUMBER" in text:
        return " (the endpoint doesn't use TLS); correct endpoint_url"
    return " (the TLS handshake failed)"


def _error_class(error: ClientError, code: str) -> type[KekError]:
    status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
    if code in _STATE_CODES and "delet" in error.response["Error"].get("Message", ""):
        return errors.KeyPendingDeletionError
    if status >= _SERVER_ERROR:
        return errors.ProviderUnavailableError
    return _BY_CODE.get(code, errors.ThrottledError if status == _TOO_MANY_REQUESTS else KekError)
