"""The writes of one store that are running or ended lately, by the ids of their attempts."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from kekd_server.errors import (
    CallAbandonedError,
    KekdError,
    OutcomeUnknownError,
    StoreSilentError,
    StoreUnavailableError,
)
from kekd_server.storage.write_attempt import RETENTION, WriteAttempt

T = TypeVar("T")
IsAbandoned: TypeAlias = Callable[[], bool]
"""Whether a caller doesn't wait any more."""

MAX_OUTCOMES: Final = 65_536
"""How many outcomes are remembered, at some 300 bytes each. The entries of a batch count each."""

_AMBIGUOUS: Final = (StoreUnavailableError, StoreSilentError, OutcomeUnknownError)


class _Running(NamedTuple):
    work: asyncio.Future[Any]
    waiters: list[IsAbandoned]


class _Outcome(NamedTuple):
    is_refusal: bool
    """Whether the write changed nothing."""
    result: Any
    size: int
    expires: float


def never_abandoned() -> bool:
    """Of a caller who waits to the end."""
    return False


class WriteOutcomes:
    """Joins the attempts of a write: the first one runs, and the others get its result.

    An outcome is remembered for `RETENTION` seconds, or until `MAX_OUTCOMES` others followed. After
    a refusal, the next attempt runs like a first one. A failure that leaves open whether the store
    applied the write is not remembered. For the event loop alone.
    """

    def __init__(self, *, max_outcomes: int = MAX_OUTCOMES) -> None:
        self._running: dict[str, _Running] = {}
        self._ended: OrderedDict[str, _Outcome] = OrderedDict()
        self._max = max_outcomes
        self._size = 0
        self._last_dropped = -math.inf
        """When an outcome was dropped before its time."""

    def may_have_forgotten(self, attempt: WriteAttempt) -> bool:
        """Whether an earlier attempt may have ended lately and isn't remembered."""
        if attempt.id in self._running or attempt.id in self._ended:
            return False
        return time.monotonic() - self._last_dropped < RETENTION

    def is_abandoned(self, attempt_id: str) -> bool:
        """Whether every caller who waits for a running write has gone."""
        return all(has_gone() for has_gone in self._running[attempt_id].waiters)

    async def run(
        self,
        attempt: WriteAttempt,
        work: Callable[[WriteAttempt], Awaitable[T]],
        is_abandoned: IsAbandoned = never_abandoned,
    ) -> T:
        """The result of the write, from this attempt or an earlier one. The work goes on even if
        this caller is cancelled.
        """
        self._expire()
        if outcome := self._ended.get(attempt.id):
            if not outcome.is_refusal:
                result: T = outcome.result
                return result
            attempt = attempt._replace(is_retry=False)
        running = self._running.get(attempt.id) or self._start(attempt, work)
        running.waiters.append(is_abandoned)
        joined: T = await asyncio.shield(running.work)
        return joined

    def _start(
        self, attempt: WriteAttempt, work: Callable[[WriteAttempt], Awaitable[T]]
    ) -> _Running:
        running = _Running(asyncio.ensure_future(work(attempt)), [])
        self._running[attempt.id] = running
        running.work.add_done_callback(lambda ended: self._end(attempt.id, ended))
        return running

    def _end(self, attempt_id: str, work: asyncio.Future[Any]) -> None:
        del self._running[attempt_id]
        if work.cancelled():
            return
        error = work.exception()
        if error is None:
            result = work.result()
            if not (isinstance(result, list) and any(map(_is_abandoned, result))):
                self._remember(attempt_id, result)
        elif isinstance(error, KekdError) and not isinstance(error, _AMBIGUOUS):
            self._remember(attempt_id, None, is_refusal=True)

    def _remember(self, attempt_id: str, result: Any, *, is_refusal: bool = False) -> None:
        self._forget(attempt_id)
        size = len(result) if isinstance(result, list) else 1
        expires = time.monotonic() + RETENTION
        self._ended[attempt_id] = _Outcome(is_refusal, result, size, expires)
        self._size += size
        while self._size > self._max:
            self._forget(next(iter(self._ended)))
            self._last_dropped = time.monotonic()

    def _expire(self) -> None:
        now = time.monotonic()
        while self._ended:
            oldest, outcome = next(iter(self._ended.items()))
            if outcome.expires > now:
                return
            self._forget(oldest)

    def _forget(self, attempt_id: str) -> None:
        if outcome := self._ended.pop(attempt_id, None):
            self._size -= outcome.size


def _is_abandoned(entry: object) -> bool:
    """Whether this entry of a batch wasn't begun."""
    return isinstance(entry, CallAbandonedError)
