"""The providers of slots, with as few clients as they need."""

from typing import Any
from weakref import WeakValueDictionary

from kekd.kek.aws import session
from kekd.kek.aws.kms import AwsKms
from kekd.kek.provider import Provider
from kekd.kek.rate_limiter import RateLimiter
from kekd.kek.slot import Slot


class AwsProviders:
    """Makes `aws` and `aws-kms`. Slots that are let in alike share a client and its connections."""

    def __init__(self, timeout: float, pace: RateLimiter) -> None:
        self._timeout = timeout
        self._pace = pace
        self._clients: WeakValueDictionary[tuple[str, ...], Any] = WeakValueDictionary()
        """Each is kept by the providers that use it."""

    def __call__(self, slot: Slot) -> Provider:
        if slot.provider == "aws-kms":
            client = self._client("kms", slot)
            return AwsKms(slot, timeout=self._timeout, pace=self._pace, client=client)
        # Imported here, as it needs cryptography.
        from kekd.kek.aws.secrets import AwsSecrets  # noqa: PLC0415

        client = self._client("secretsmanager", slot)
        return AwsSecrets(slot, timeout=self._timeout, pace=self._pace, client=client)

    def _client(self, service: str, slot: Slot) -> Any:
        key = (service, *slot.access)
        found = self._clients.get(key)
        if found is None:
            found = self._clients[key] = session.connect(service, slot, self._timeout)
        return found
