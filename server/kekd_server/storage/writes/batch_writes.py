"""Pushes of several envelopes in one call, a few at a time in the threads of a store."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

from kekd_schema import encode
from kekd_server.model.errors import CallAbandonedError, KekdError
from kekd_server.storage.driver import Driver, WriteResult
from kekd_server.storage.driver_calls import DriverCalls
from kekd_server.storage.history.version import Origin, VersionEvent
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.outcomes import IsAbandoned, never_abandoned
from kekd_server.storage.writes.push import Push
from kekd_server.storage.writes.steps import RunningWrite, Steps

PushResult: TypeAlias = WriteResult | KekdError


class BatchWrites:
    """Writes the entries of a batch, each on its own. A part of `Store`, with the same errors."""

    def __init__(self, driver: Driver, calls: DriverCalls, *, concurrency: int) -> None:
        """`concurrency`: how many parts of a batch run, or wait for a thread, at once."""
        self._driver = driver
        self._calls = calls
        self._concurrency = concurrency

    async def put_many(
        self,
        pushes: Sequence[Push],
        *,
        owner: str = "",
        is_abandoned: IsAbandoned = never_abandoned,
    ) -> list[PushResult]:
        """Returns for each push what `Store.put` returns or raises. Pushes of one name are written
        in their order.

        Once the batch `is_abandoned`, no more entries start, and the rest gets
        `CallAbandonedError`. A batch with attempts is abandoned when every caller that waits for it
        is gone. It runs to its end if the store can't find out later which entries were applied.
        """
        attempts = [push.attempt for push in pushes if push.attempt]
        if not attempts:
            return await self._put_each(pushes, owner, is_abandoned)
        ids = (bytes.fromhex(attempt.id) for attempt in attempts)
        batch = WriteAttempt.derive(ids, is_retry=attempts[0].is_retry)

        async def put_unremembered(_: WriteAttempt | None) -> list[PushResult]:
            has_no_waiter = partial(self._calls.outcomes.is_abandoned, batch.id)
            return await self._put_unremembered(pushes, owner, has_no_waiter)

        if not self._driver.recognizes_attempts:
            is_abandoned = never_abandoned
        while True:
            results = await self._calls.run_once(
                batch, pushes[0].name, put_unremembered, is_abandoned
            )
            was_abandoned = any(isinstance(result, CallAbandonedError) for result in results)
            if not was_abandoned or is_abandoned():
                return results
            # It was abandoned before this caller joined, so the rest starts now.

    async def _put_unremembered(
        self, pushes: Sequence[Push], owner: str, is_abandoned: IsAbandoned
    ) -> list[PushResult]:
        """Writes the pushes whose outcome isn't remembered; the others get their remembered
        result.
        """
        outcomes = self._calls.outcomes
        results: dict[int, PushResult] = {}
        new: dict[int, Push] = {}
        for number, push in enumerate(pushes):
            outcome = outcomes.find(push.attempt.id) if push.attempt else None
            if outcome and not outcome.is_refusal:
                results[number] = outcome.result
            else:
                new[number] = _without_retry_flag(push) if outcome else push
        written = await self._put_each(list(new.values()), owner, is_abandoned)
        for (number, push), result in zip(new.items(), written, strict=True):
            if push.attempt:
                outcomes.add(push.attempt.id, result)
            results[number] = result
        return [results[number] for number in range(len(pushes))]

    async def _put_each(
        self, pushes: Sequence[Push], owner: str, is_abandoned: IsAbandoned
    ) -> list[PushResult]:
        loop = asyncio.get_running_loop()
        results: dict[int, PushResult] = {}
        was_abandoned = threading.Event()

        def require_caller() -> None:
            if is_abandoned():
                # For good, even if a retry joins later: pushes of one name must keep their order.
                was_abandoned.set()
            if was_abandoned.is_set():
                raise CallAbandonedError

        async def work(share: Sequence[int]) -> None:
            for numbers in self._parts(pushes, share):
                writes = [
                    RunningWrite(self._put(loop, owner, pushes[number], require_caller))
                    for number in numbers
                ]
                await self._calls.run_writes(writes, owner)
                results.update(zip(numbers, (write.outcome() for write in writes), strict=True))

        shares = _shares(pushes, self._concurrency)
        # After an unexpected error, it waits for the writes that still run.
        for error in await asyncio.gather(*map(work, shares), return_exceptions=True):
            if error:
                raise error
        return [results[number] for number in range(len(pushes))]

    def _put(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: str,
        push: Push,
        require_caller: Callable[[], None],
    ) -> Steps[PushResult]:
        try:
            with self._calls.error_context:
                require_caller()
                record = encode(push.envelope)
                written = yield from self._driver.put(
                    *(push.name, record),
                    if_etag=push.if_etag,
                    origin=Origin(VersionEvent.PUSHED, owner),
                    attempt=push.attempt,
                )
        except KekdError as error:
            return error
        self._calls.publish(loop, Change(ChangeKind.PUSHED, push.name, written.etag))
        return written

    def _parts(self, pushes: Sequence[Push], share: Sequence[int]) -> Iterator[list[int]]:
        """Divides a share into the parts that run in one thread each, in their order. A part has
        each name at most once, as its writes run in no order.
        """
        part: dict[str, int] = {}
        for number in share:
            key = pushes[number].name.key
            if key in part or len(part) >= self._calls.max_part:
                yield list(part.values())
                part = {}
            part[key] = number
        if part:
            yield list(part.values())


def _without_retry_flag(push: Push) -> Push:
    return push._replace(attempt=push.attempt and push.attempt._replace(is_retry=False))


def _shares(pushes: Sequence[Push], count: int) -> list[list[int]]:
    """Divides the positions of the pushes into shares that run at the same time. Those of one name
    are in one share.
    """
    shares: list[list[int]] = [[] for _ in range(count)]
    ranks: dict[str, int] = {}
    for number, push in enumerate(pushes):
        rank = ranks.setdefault(push.name.key, len(ranks))
        shares[rank % count].append(number)
    return shares
