"""Clients of AWS for slots, and their requests."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
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
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from kekd.kek import errors
from kekd.kek.aws.error_table import to_kek_error
from kekd.kek.errors import KekError
from kekd.kek.rate_limiter import RateLimiter
from kekd.kek.slot import Slot, region_of
from kekd_common.aws_credentials import make_client

Answer = TypeVar("Answer")

_LOADER: Final = botocore.loaders.create_loader()
"""Shared. Otherwise each client would have its own copy of botocore's service data, about 9 MB."""

_CONNECT_TIMEOUT: Final = 2.0
_READ_TIMEOUT: Final = 5.0

_RESPONSE_TYPES: Final[Mapping[str, type]] = {
    "ARN": str,
    "CiphertextBlob": bytes,
    "KeyId": str,
    "KeyMetadata": dict,
    "Plaintext": bytes,
    "Rotations": list,
    "SourceKeyId": str,
}
"""The types of the parts of responses, which botocore doesn't check."""


def connect(service: str, slot: Slot, timeout: float) -> Any:
    """Returns a boto3 client for the slot, in its region and with its role's credentials.

    botocore renews the credentials before they expire, in one thread for all callers
    (https://github.com/boto/botocore/blob/develop/botocore/credentials.py). The client makes one
    attempt of up to `timeout` seconds for each request; `Requests` retries.
    """
    config = Config(
        connect_timeout=min(_CONNECT_TIMEOUT, timeout),
        read_timeout=min(_READ_TIMEOUT, timeout),
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=64,
    )
    options: dict[str, Any] = {"endpoint_url": slot.endpoint_url or None, "config": config}
    try:
        find = partial(_find_credentials, slot, options)
        return make_client(_session(slot), find, service, **options)
    except (BotoCoreError, ValueError) as error:
        raise to_kek_error(error, slot) from error


def _session(slot: Slot) -> botocore.session.Session:
    session = botocore.session.Session()
    session.register_component("data_loader", _LOADER)
    session.set_config_variable("region", slot.region or region_of(slot.key_id) or None)
    return session


def _find_credentials(slot: Slot, options: dict[str, Any]) -> Credentials | None:
    """Uses a new session, because a session caches the credentials that it has found."""
    session = _session(slot)
    own = session.get_credentials()
    if own is None or not slot.role_arn:
        return own
    extra = {"RoleSessionName": slot.session_name}
    if slot.external_id:
        extra["ExternalId"] = slot.external_id
    fetcher = AssumeRoleCredentialFetcher(
        lambda service, **credentials: session.create_client(service, **options, **credentials),
        own,
        slot.role_arn,
        extra_args=extra,
    )
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


class Requests:
    """Makes the requests of a slot. Limits their rate, and retries while AWS is unavailable."""

    def __init__(self, slot: Slot, timeout: float, rate_limiter: RateLimiter) -> None:
        """`timeout` is the number of seconds in which a request may be retried.

        It excludes the time spent waiting for the rate limit. An attempt that is running when it
        ends still completes.
        """
        self._slot = slot
        self._timeout = timeout
        self._rate_limiter = rate_limiter

    def __call__(self, function: Callable[..., Answer], *required: str, **arguments: Any) -> Answer:
        """Returns AWS's response, which has the `required` keys. Raises `KekError`."""
        waited = 0.0

        def attempt() -> Answer:
            nonlocal waited
            waited += self._rate_limiter.wait()
            outcome = self._attempt(function, required, arguments)
            if isinstance(outcome, KekError):
                raise outcome
            return outcome

        @cache
        def pause(state: tenacity.RetryCallState, _: int) -> float:
            return tenacity.wait_random_exponential(multiplier=0.1, max=2)(state)

        # Versions of tenacity differ in which of these two functions they call first.
        def wait(state: tenacity.RetryCallState) -> float:
            return pause(state, state.attempt_number)

        def is_over(state: tenacity.RetryCallState) -> bool:
            tried = (state.seconds_since_start or 0.0) - waited
            return tried + wait(state) >= self._timeout

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(errors.ProviderUnavailableError),
            wait=wait,
            stop=is_over,
            reraise=True,
        )(attempt)

    def _attempt(
        self,
        function: Callable[..., Answer],
        required: Sequence[str],
        arguments: Mapping[str, Any],
    ) -> Answer | KekError:
        """Returns a failure instead of raising it.

        Raised here, it would have botocore's exception as its context, with AWS's response and the
        request.
        """
        try:
            response = function(**arguments)
        except (ClientError, BotoCoreError, RuntimeError) as error:
            return self._to_kek_error(error, arguments, _endpoint(function))
        except (ResponseParserError, ValueError, TypeError, KeyError, AttributeError):
            return self._not_aws(_endpoint(function))
        found = cast("Mapping[str, Any]", response)
        is_aws = all(isinstance(found.get(key), _RESPONSE_TYPES[key]) for key in required)
        return response if is_aws else self._not_aws(_endpoint(function))

    def _to_kek_error(
        self, error: Exception, arguments: Mapping[str, Any], endpoint: str
    ) -> KekError:
        failure = to_kek_error(error, self._slot, endpoint)
        failure.key_id = arguments.get("KeyId") or failure.key_id
        if isinstance(error, ClientError):  # contains AWS's error response, but no key
            failure.__cause__ = error.with_traceback(None)
        return failure

    def _not_aws(self, endpoint: str) -> KekError:
        return errors.ProviderUnavailableError(
            "unexpected response: it isn't from AWS; check the slot's endpoint_url and any proxy",
            slot=self._slot.name,
            key_id=self._slot.key_id,
            endpoint=endpoint,
        )


def _endpoint(function: Callable[..., Any]) -> str:
    """Returns the URL that a client's method calls."""
    url: str = cast("Any", function).__self__.meta.endpoint_url
    return url
