"""The writes to one store that are running or ended recently, by the ids of their attempts."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from kekd_server.model.errors import (
    KekdError,
    OutcomeUnknownError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from kekd_server.storage.writes.attempt import RETENTION, WriteAttempt

T = TypeVar("T")
IsAbandoned: TypeAlias = Callable[[], bool]
"""Whether a caller has stopped waiting."""

MAX_OUTCOMES: Final = 65_536
"""Outcomes that are remembered, of some 300 bytes each."""

_AMBIGUOUS_ERRORS: Final = (StoreUnavailableError, StoreTimeoutError, OutcomeUnknownError)


class _JoinedWrite(NamedTuple):
    waiters: list[IsAbandoned]
    """One for each attempt."""
    later: list[asyncio.Future[Any]]
    """One for each attempt after the first, to get the outcome."""


class WriteOutcome(NamedTuple):
    is_refusal: bool
    """Whether the write changed nothing, so that the next attempt runs like a first one."""
    result: Any
    expires: float


def never_abandoned() -> bool:
    """For a caller that waits to the end."""
    return False


class WriteOutcomes:
    """Joins the attempts of a write: the first one runs, and the others get its result or error.

    An outcome is remembered for `RETENTION` seconds, or until `MAX_OUTCOMES` others followed. After
    a refusal, the next attempt runs like a first one. A failure that leaves open whether the store
    applied the write is not remembered. Use it on the event loop only, except `is_abandoned`.
    """

    def __init__(self, *, max_outcomes: int = MAX_OUTCOMES) -> None:
        self._running: dict[str, _JoinedWrite] = {}
        self._ended: OrderedDict[str, WriteOutcome] = OrderedDict()
        self._max = max_outcomes
        self._last_dropped = -math.inf
        """When an outcome was last dropped before it expired."""

    def may_have_forgotten(self, attempt: WriteAttempt) -> bool:
        """Whether an earlier attempt may have ended recently without being remembered."""
        if attempt.id in self._running or attempt.id in self._ended:
            return False
        return time.monotonic() - self._last_dropped < RETENTION

    def is_abandoned(self, attempt_id: str) -> bool:
        """Whether every caller that waited for a running write is gone. Called in any thread, while
        the write runs.
        """
        return all(is_gone() for is_gone in self._running[attempt_id].waiters)

    def find(self, attempt_id: str) -> WriteOutcome | None:
        self._expire()
        return self._ended.get(attempt_id)

    def add(self, attempt_id: str, ended: object) -> None:
        """Remembers a result or a refusal. Ignores a failure that leaves the outcome open."""
        is_failure = isinstance(ended, BaseException)
        is_refusal = isinstance(ended, KekdError) and not isinstance(ended, _AMBIGUOUS_ERRORS)
        if is_failure and not is_refusal:
            return
        self._ended.pop(attempt_id, None)
        result = None if is_refusal else ended
        self._ended[attempt_id] = WriteOutcome(is_refusal, result, time.monotonic() + RETENTION)
        while len(self._ended) > self._max:
            self._ended.popitem(last=False)
            self._last_dropped = time.monotonic()

    async def run(
        self,
        attempt: WriteAttempt,
        work: Callable[[WriteAttempt], Awaitable[T]],
        is_abandoned: IsAbandoned = never_abandoned,
    ) -> T:
        """Returns the result of the write, from this attempt or an earlier one. A list is the
        result of a batch, and is not remembered: `add` remembers its entries.

        The work runs in the task of the first attempt. Don't cancel that: `run_detached` gives each
        write a task that outlives its caller.
        """
        if outcome := self.find(attempt.id):
            if not outcome.is_refusal:
                earlier: T = outcome.result
                return earlier
            attempt = attempt._replace(is_retry=False)
        if running := self._running.get(attempt.id):
            joined: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            running.later.append(joined)
            running.waiters.append(is_abandoned)
            return await joined
        self._running[attempt.id] = _JoinedWrite([is_abandoned], [])
        try:
            result = await work(attempt)
        except BaseException as error:
            self._end(attempt.id, error)
            raise
        self._end(attempt.id, result)
        return result

    def _end(self, attempt_id: str, outcome: object) -> None:
        write = self._running.pop(attempt_id)
        for later in write.later:
            if later.done():  # its caller was cancelled
                continue
            if isinstance(outcome, BaseException):
                later.set_exception(outcome)
            else:
                later.set_result(outcome)
        if not isinstance(outcome, list):
            self.add(attempt_id, outcome)

    def _expire(self) -> None:
        now = time.monotonic()
        while self._ended:
            oldest, outcome = next(iter(self._ended.items()))
            if outcome.expires > now:
                return
            del self._ended[oldest]
