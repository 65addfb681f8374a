"""Creates and caches the providers of a registry's slots."""

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
from kekd_common.install import install_command

_ALIAS_TTL: Final = 5.0
"""Seconds for which the key of an alias is cached, while many envelopes are compared with it."""

MAX_PROVIDERS: Final = 16
"""Cached per slot, for its own region and role. They share one client."""
MAX_FOREIGN_PROVIDERS: Final = 4
"""Cached per slot, for regions that only envelopes name. Each has its own client."""


class Providers:
    """Creates the provider of each key on first use. Thread-safe.

    Anyone who can push envelopes can name keys and regions. So the cache is small, and keys that a
    slot doesn't allow never reach AWS.
    """

    def __init__(
        self,
        make: Callable[[Slot], Provider] | None,
        timeout: float,
        max_rate: float | None,
        slots: Mapping[str, Slot],
    ) -> None:
        """`make` creates a provider; None for those of AWS. `slots` are the registry's, by name."""
        self._make = make
        self._timeout = timeout
        self._max_rate = max_rate
        self._slots = slots
        self.reset()

    def reset(self) -> None:
        """Drops all providers. A forked child can't share connections with its parent."""
        self._aws: Callable[[Slot], Provider] | None = None
        self._caches: dict[tuple[str, bool], Callable[[Slot], Provider]] = {}
        self._key_arns: dict[Slot, tuple[str, float]] = {}
        self._rate_limiter = RateLimiter(self._max_rate)
        self._lock = threading.Lock()

    def for_slot(self, slot: Slot) -> Provider:
        """Raises `KeyNotAllowedError`, `MissingDependencyError` and other kinds of `KekError`."""
        slot.check_key()
        known = self._slots.get(slot.name)
        is_foreign = known is None or known.access != slot.access
        with self._lock:
            cache = self._caches.get((slot.name, is_foreign))
            if cache is None:
                size = MAX_FOREIGN_PROVIDERS if is_foreign else MAX_PROVIDERS
                cache = self._caches[slot.name, is_foreign] = lru_cache(size)(self._create)
            return cache(slot)

    def key_arn(self, slot: Slot) -> str:
        """Returns the ARN of the key that a slot's alias points to."""
        arn, asked = self._key_arns.get(slot, ("", float("-inf")))
        if time.monotonic() - asked > _ALIAS_TTL:
            arn = self.for_slot(slot).describe().arn
            self._key_arns[slot] = arn, time.monotonic()
        return arn

    def _create(self, slot: Slot) -> Provider:
        with require_extra():
            return (self._make or self._for_aws())(slot)

    def _for_aws(self) -> Callable[[Slot], Provider]:
        if self._aws is None:
            from kekd.kek.aws.providers import AwsProviders  # noqa: PLC0415

            self._aws = AwsProviders(self._timeout, self._rate_limiter)
        return self._aws


@contextmanager
def require_extra() -> Iterator[None]:
    """Raises `MissingDependencyError` if an import fails because the extra `aws` is missing.

    The extra has boto3, cryptography, pydantic and PyYAML, which are slow to import.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"cannot import {error.name}: it isn't installed; run {install_command('aws')}"
        ) from error
