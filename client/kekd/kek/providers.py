"""The providers of a registry's slots."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from kekd.kek.errors import MissingDependencyError
from kekd.kek.provider import Provider
from kekd.kek.rate_limiter import RateLimiter
from kekd.kek.slot import Slot

_ALIAS_SECONDS: Final = 5.0
"""How long an alias is believed to stand for the same key, while many are compared with it."""

MAX_PROVIDERS: Final = 16
"""Kept for each slot, for its own region and role; they share one client."""
MAX_FOREIGN_PROVIDERS: Final = 4
"""Kept for each slot, of regions that only envelopes name. Each has a client of its own."""


class Providers:
    """Makes a provider for each key, when first needed. Thread-safe.

    Anybody may write the keys and regions in envelopes, so few providers are kept, and keys that a
    slot clearly disallows never reach AWS.
    """

    def __init__(
        self,
        make: Callable[[Slot], Provider] | None,
        timeout: float,
        max_rate: float | None,
        slots: Mapping[str, Slot],
    ) -> None:
        """Without a `make`, those for AWS. `slots` are those of the registry, by name."""
        self._make = make
        self._timeout = timeout
        self._max_rate = max_rate
        self._slots = slots
        self.reset()

    def reset(self) -> None:
        """A forked child would read its parent's answers from the connections they share."""
        self._aws: Callable[[Slot], Provider] | None = None
        self._made: dict[tuple[str, bool], Callable[[Slot], Provider]] = {}
        self._key_arns: dict[Slot, tuple[str, float]] = {}
        self._pace = RateLimiter(self._max_rate)
        self._lock = threading.Lock()

    def of(self, slot: Slot) -> Provider:
        """Raises `KeyNotAllowedError`, `MissingDependencyError`, and what making a client of AWS
        fails with.
        """
        slot.check_key()
        known = self._slots.get(slot.name)
        is_foreign = known is None or known.access != slot.access
        with self._lock:
            cache = self._made.get((slot.name, is_foreign))
            if cache is None:
                size = MAX_FOREIGN_PROVIDERS if is_foreign else MAX_PROVIDERS
                cache = self._made[slot.name, is_foreign] = lru_cache(size)(self._new)
            return cache(slot)

    def key_arn(self, slot: Slot) -> str:
        """Of the key that a slot's alias stands for."""
        arn, asked = self._key_arns.get(slot, ("", float("-inf")))
        if time.monotonic() - asked > _ALIAS_SECONDS:
            arn = self.of(slot).describe().arn
            self._key_arns[slot] = arn, time.monotonic()
        return arn

    def _new(self, slot: Slot) -> Provider:
        with require_extra():
            return (self._make or self._for_aws())(slot)

    def _for_aws(self) -> Callable[[Slot], Provider]:
        if self._aws is None:
            from kekd.kek.aws.providers import AwsProviders  # noqa: PLC0415

            self._aws = AwsProviders(self._timeout, self._pace)
        return self._aws


@contextmanager
def require_extra() -> Iterator[None]:
    """boto3, cryptography, pydantic and PyYAML are the extra `aws`, and take long to import."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} isn't installed: pip install 'kekd[aws]'."
        ) from error
