"""The common part of the AWS providers: the slot, its client and its requests."""

from typing import Any, ClassVar

from kekd.kek.aws import session
from kekd.kek.rate_limiter import RateLimiter
from kekd.kek.slot import Slot


class AwsProvider:
    SERVICE: ClassVar[str]
    """boto3's name of the service."""

    def __init__(
        self,
        slot: Slot,
        *,
        timeout: float,
        rate_limiter: RateLimiter | None = None,
        client: Any = None,
    ) -> None:
        """`timeout` is the number of seconds in which a request may be retried.

        Without `client`, creates one for the slot. Raises `KeyNotAllowedError`, and
        `RegionMismatchError` if the ARN in the slot's `key_id` is in another region than the slot.
        """
        slot.check_key()
        slot.check_region(slot.key_id)
        self.slot = slot
        self._request = session.Requests(slot, timeout, rate_limiter or RateLimiter(None))
        self._client = client or session.connect(self.SERVICE, slot, timeout)
