"""Creates AWS providers that share clients."""

from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from kekd.kek.aws import session
from kekd.kek.aws.kms import AwsKms
from kekd.kek.provider import Provider
from kekd.kek.rate_limiter import RateLimiter
from kekd.kek.slot import Slot

if TYPE_CHECKING:
    from kekd.kek.aws.secrets import AwsSecrets


class AwsProviders:
    """Creates providers `aws` and `aws-kms`. Slots with the same access share a client."""

    def __init__(self, timeout: float, rate_limiter: RateLimiter) -> None:
        self._timeout = timeout
        self._rate_limiter = rate_limiter
        self._clients: WeakValueDictionary[tuple[str, ...], Any] = WeakValueDictionary()
        """A client lives as long as the providers that use it."""

    def __call__(self, slot: Slot) -> Provider:
        make = AwsKms if slot.provider == "aws-kms" else _aws_secrets()
        return make(
            slot,
            timeout=self._timeout,
            rate_limiter=self._rate_limiter,
            client=self._client(make.SERVICE, slot),
        )

    def _client(self, service: str, slot: Slot) -> Any:
        key = (service, *slot.access)
        found = self._clients.get(key)
        if found is None:
            found = self._clients[key] = session.connect(service, slot, self._timeout)
        return found


def _aws_secrets() -> "type[AwsSecrets]":
    # Imported here because it needs cryptography, which is slow to import.
    from kekd.kek.aws.secrets import AwsSecrets  # noqa: PLC0415

    return AwsSecrets
