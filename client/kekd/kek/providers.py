"""The providers of a registry's slots."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kekd.kek.errors import MissingDependencyError
from kekd.kek.pace import Pace
from kekd.kek.provider import Provider
from kekd.kek.slot import Slot

_ALIAS_SECONDS: Final = 5.0
"""How long an alias is believed to stand for the same key, while many are compared with it."""


class Providers:
    """Makes one for each slot, when it is first needed. Threads may share them."""

    def __init__(
        self, make: Callable[[Slot], Provider] | None, timeout: float, max_rate: float | None
    ) -> None:
        """Without a `make`, those for AWS."""
        self._make = make
        self._timeout = timeout
        self._max_rate = max_rate
        self.forget()

    def forget(self) -> None:
        """A forked child would read its parent's answers from the connections they share."""
        self._aws: Callable[[Slot], Provider] | None = None
        self._made: dict[Slot, Provider] = {}
        self._key_arns: dict[Slot, tuple[str, float]] = {}
        self._pace = Pace(self._max_rate)
        self._lock = threading.Lock()

    def of(self, slot: Slot) -> Provider:
        """Raises `MissingDependencyError`, and what making a client of AWS fails with."""
        with self._lock:
            found = self._made.get(slot)
            if found is None:
                with needing_the_extra():
                    found = self._made[slot] = (self._make or self._for_aws())(slot)
            return found

    def key_arn(self, slot: Slot) -> str:
        """Of the key that a slot's alias stands for."""
        arn, asked = self._key_arns.get(slot, ("", float("-inf")))
        if time.monotonic() - asked > _ALIAS_SECONDS:
            arn = self.of(slot).describe().arn
            self._key_arns[slot] = arn, time.monotonic()
        return arn

    def _for_aws(self) -> Callable[[Slot], Provider]:
        if self._aws is None:
            from kekd.kek.aws_providers import AwsProviders  # noqa: PLC0415

            self._aws = AwsProviders(self._timeout, self._pace)
        return self._aws


@contextmanager
def needing_the_extra() -> Iterator[None]:
    """boto3, cryptography, pydantic and PyYAML are the extra `aws`, and take long to import."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} isn't installed: pip install 'kekd[aws]'."
        ) from error
