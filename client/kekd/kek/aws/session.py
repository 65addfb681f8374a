"""How a slot reaches AWS, and what AWS's failures mean."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

import botocore.loaders
import botocore.session
import tenacity
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    Credentials,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
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
from botocore.parsers import ResponseParserError

from kekd.kek import errors
from kekd.kek.errors import KekError
from kekd.kek.rate_limiter import RateLimiter
from kekd.kek.slot import Slot, region_of
from kekd_common.aws_credentials import CredentialSourceError, make_client, sentence

Answer = TypeVar("Answer")

_LOADER: Final = botocore.loaders.create_loader()
"""Shared, as otherwise each client holds its own copy of what botocore knows of AWS, some 9 MB."""

_SERVER_ERROR: Final = 500
_TOO_MANY_REQUESTS: Final = 429
_CONNECT_SECONDS: Final = 2.0
_READ_SECONDS: Final = 5.0

_KINDS: Final[Mapping[str, type]] = {
    "ARN": str,
    "CiphertextBlob": bytes,
    "KeyId": str,
    "KeyMetadata": dict,
    "Plaintext": bytes,
    "Rotations": list,
    "SourceKeyId": str,
}
"""Of the parts of answers, which botocore takes as they come."""

_STATES: Final = {"DisabledException", "InvalidRequestException", "KMSInvalidStateException"}
"""Codes that also stand for a key or secret that is to be deleted; only the text tells."""
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
    KekError: "AWS, or its client, refuses it.",
    errors.AccessDeniedError: (
        "AWS refuses it to this caller: check its IAM policy, that of the key, secret or role, and"
        " that account and region are the right ones."
    ),
    errors.CredentialsError: (
        "AWS needs valid credentials: set them in the environment, a profile or an instance role."
    ),
    errors.CredentialsUnavailableError: (
        "No AWS credentials can be had: set them in the environment, a profile or an instance role."
    ),
    errors.ExpiredCredentialsError: "The AWS credentials have expired: renew them.",
    errors.KeyDisabledError: "The key is disabled, or not ready for use: see to it in KMS.",
    errors.KeyNotFoundError: (
        "There is no such key here: check its id or alias, the region and the account."
    ),
    errors.KeyPendingDeletionError: (
        "It is going to be deleted: cancel that in AWS while there is time."
    ),
    errors.ProviderUnavailableError: "AWS can't be reached, or fails: try again.",
    errors.RegionMismatchError: "No AWS region is known: write one into the slot.",
    errors.SecretExistsError: "There is such a secret already: nothing was made.",
    errors.SecretNotFoundError: (
        "There is no such secret: check its name, the region and the account, or make it with"
        " 'kekctl kms create-secret'."
    ),
    errors.TamperedError: (
        "The wrapped KEK doesn't open: it, or what it is bound to, was changed since. Restore the"
        " envelope."
    ),
    errors.ThrottledError: "AWS asks for fewer requests: try again later, or more slowly.",
    errors.WrongKeyError: "Another key wrapped this KEK: restore the envelope's own key.",
}

_WITH_DETAILS: Final = {errors.AccessDeniedError, errors.CredentialsUnavailableError}
"""Which tell who may not do what, or where credentials were looked for."""

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
    # Of credentials that are over when they come: a clock is wrong.
    ((RuntimeError,), errors.ExpiredCredentialsError),
    ((ConnectionError, HTTPClientError), errors.ProviderUnavailableError),
)
"""Any other is about how boto3 was set up."""


def connect(service: str, slot: Slot, timeout: float) -> Any:
    """A boto3 client for the slot, in its region and with its role's credentials, which botocore
    renews ahead of their expiry, one thread for all
    (https://github.com/boto/botocore/blob/develop/botocore/credentials.py).

    It makes one attempt at a time, in at most `timeout` seconds: `Requests` makes the others.
    """
    config = Config(
        connect_timeout=min(_CONNECT_SECONDS, timeout),
        read_timeout=min(_READ_SECONDS, timeout),
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=64,
    )
    where: dict[str, Any] = {"endpoint_url": slot.endpoint_url or None, "config": config}
    try:
        find = partial(_find_credentials, slot, where)
        return make_client(_session(slot), find, service, **where)
    except (BotoCoreError, ValueError) as error:
        raise _translated(error, slot) from error


def _session(slot: Slot) -> botocore.session.Session:
    session = botocore.session.Session()
    session.register_component("data_loader", _LOADER)
    session.set_config_variable("region", slot.region or region_of(slot.key_id) or None)
    return session


def _find_credentials(slot: Slot, where: dict[str, Any]) -> Credentials | None:
    """By a session of their own, as one remembers what it read."""
    session = _session(slot)
    own = session.get_credentials()
    if own is None or not slot.role_arn:
        return own
    extra = {"RoleSessionName": slot.session_name}
    if slot.external_id:
        extra["ExternalId"] = slot.external_id
    fetcher = AssumeRoleCredentialFetcher(
        lambda service, **credentials: session.create_client(service, **where, **credentials),
        own,
        slot.role_arn,
        extra_args=extra,
    )
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


class Requests:
    """Makes a slot's requests: at the pace of them all, and again while AWS is unavailable."""

    def __init__(self, slot: Slot, timeout: float, pace: RateLimiter) -> None:
        """`timeout` is the seconds in which a request may be repeated, its turns not counted. An
        attempt that is under way when they are over is waited for.
        """
        self._slot = slot
        self._timeout = timeout
        self._pace = pace

    def __call__(self, function: Callable[..., Answer], *wanted: str, **arguments: Any) -> Answer:
        """What AWS answers, which has the `wanted` keys. Raises `KekError`, by AWS's code."""
        waited = 0.0

        def attempt() -> Answer:
            nonlocal waited
            waited += self._pace.wait()
            outcome = self._asked(function, wanted, arguments)
            if isinstance(outcome, KekError):
                raise outcome
            return outcome

        def is_over(state: tenacity.RetryCallState) -> bool:
            tried = (state.seconds_since_start or 0.0) - waited
            return tried + state.upcoming_sleep >= self._timeout

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(errors.ProviderUnavailableError),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2),
            stop=is_over,
            reraise=True,
        )(attempt)

    def _asked(
        self,
        function: Callable[..., Answer],
        wanted: Sequence[str],
        arguments: Mapping[str, Any],
    ) -> Answer | KekError:
        """Returns a failure instead of raising it: raised here, it would keep botocore's exception,
        with AWS's answer and the request, as its context.
        """
        try:
            answer = function(**arguments)
        except (ClientError, BotoCoreError, RuntimeError) as error:
            return self._translated(error, arguments, _endpoint(function))
        except (ResponseParserError, ValueError, TypeError, KeyError, AttributeError):
            return self._not_aws(_endpoint(function))
        found = cast("Mapping[str, Any]", answer)
        is_aws = all(isinstance(found.get(key), _KINDS[key]) for key in wanted)
        return answer if is_aws else self._not_aws(_endpoint(function))

    def _translated(
        self, error: Exception, arguments: Mapping[str, Any], endpoint: str
    ) -> KekError:
        translated = _translated(error, self._slot, endpoint)
        translated.key_id = arguments.get("KeyId") or translated.key_id
        if isinstance(error, ClientError):  # which holds AWS's refusal, and no key
            translated.__cause__ = error.with_traceback(None)
        return translated

    def _not_aws(self, endpoint: str) -> KekError:
        return errors.ProviderUnavailableError(
            "What answered isn't AWS: check the slot's endpoint_url, and any proxy between.",
            slot=self._slot.name,
            key_id=self._slot.key_id,
            endpoint=endpoint,
        )


def _endpoint(function: Callable[..., Any]) -> str:
    """Where a method of a client asks."""
    url: str = cast("Any", function).__self__.meta.endpoint_url
    return url


def _translated(error: Exception, slot: Slot, endpoint: str = "") -> KekError:
    if isinstance(error, ClientError):
        code = error.response["Error"].get("Code", "")
        kind = _kind(error, code)
    else:
        code = error.code if isinstance(error, CredentialSourceError) else type(error).__name__
        kind = next((kind for kinds, kind in _BY_EXCEPTION if isinstance(error, kinds)), KekError)
    text = _ADVICE[kind]
    if isinstance(error, (ConnectionError, HTTPClientError)) or kind in _WITH_DETAILS:
        text = f"{text} ({sentence(error)})"
    if isinstance(error, SSLError):
        text += " If a CA of your own issued its certificate, name that CA's file in AWS_CA_BUNDLE."
    return kind(text, slot=slot.name, key_id=slot.key_id, code=code, endpoint=endpoint)


def _kind(error: ClientError, code: str) -> type[KekError]:
    status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
    if code in _STATES and "delet" in error.response["Error"].get("Message", ""):
        return errors.KeyPendingDeletionError
    if status >= _SERVER_ERROR:
        return errors.ProviderUnavailableError
    return _BY_CODE.get(code, errors.ThrottledError if status == _TOO_MANY_REQUESTS else KekError)
