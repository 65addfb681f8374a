"""Who may do what, and the record of it: nothing is done before it has passed here."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from kekd_common.policy import IndexRange, Method, Rule, first_match
from kekd_server.access.audit_log import AuditLog
from kekd_server.access.caller_rules import CallerRules
from kekd_server.access.decision import Deed, lines
from kekd_server.access.denial_throttle import DenialThrottle
from kekd_server.access.principal import Caller
from kekd_server.model.deadline import in_time
from kekd_server.model.errors import KekdError
from kekd_server.observability.metrics import Metrics

T = TypeVar("T")
OnFailure = Literal["deny", "allow"]


class Authorizer:
    """Decides by a policy, which can be replaced at any time, and records what comes of it.

    Without a policy, callers of local listeners may do anything and others nothing.

    A write is recorded before it is done and when it is; anything else before its answer goes out.
    Where that can't be written, a write isn't done, and what is read is given away all the same,
    unless `on_failure` says one of the two for both. The end of a write that was done changes
    nothing any more.
    """

    def __init__(
        self,
        policy: Sequence[Rule] | None,
        metrics: Metrics,
        audit: AuditLog | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        self.replace(policy)
        self._decisions: Counter[tuple[str, str]] = Counter()
        metrics.decisions.bind(self._decisions)
        self._audit = audit
        self._denials = DenialThrottle(audit.post) if audit else None
        self._must_for_writes = on_failure != "allow"
        self._must_for_reads = on_failure == "deny"

    def replace(self, policy: Sequence[Rule] | None) -> None:
        self._rules = CallerRules(policy)

    def deed(self, caller: Caller, method: Method, store: str, index: str) -> Deed:
        rules = self._rules.applying(caller, method, store)
        deed = _deed(caller, method, store, index, rules)
        self._count(deed)
        return deed

    def deeds(
        self, caller: Caller, method: Method, store: str, indexes: Iterable[str]
    ) -> list[Deed]:
        """One for each index."""
        rules = self._rules.applying(caller, method, store)
        deeds = [_deed(caller, method, store, it, rules) for it in indexes]
        self._count(*deeds)
        return deeds

    def sweep(self, caller: Caller, method: Method, store: str, prefix: str) -> Deed:
        """What is done to all those indexes with a prefix to which the caller may do it, and which
        he may read. It is denied if there can't be any.
        """
        rules = self._rules.applying(caller, method, store)
        deed = Deed(caller, method, store, f"{prefix}*", rules[0].name if rules else None)
        self._count(deed)
        return deed

    def shown(self, sweep: Deed) -> Callable[[str], bool]:
        """What says of an index whether it is one of those."""
        to_sweep = self._rules.applying(sweep.caller, sweep.method, sweep.store)
        to_read = self._rules.applying(sweep.caller, "read", sweep.store)
        return lambda it: bool(first_match(to_sweep, it) and first_match(to_read, it))

    def visible_ranges(self, sweep: Deed) -> Sequence[IndexRange]:
        """The index ranges that a listing of this sweep has to scan."""
        return self._rules.visible_ranges(sweep.caller, sweep.method, sweep.store)

    def allows_any(
        self, caller: Caller, method: Method, store: str, indexes: Iterable[str]
    ) -> bool:
        """Decides nothing, and so records nothing."""
        rules = self._rules.applying(caller, method, store)
        return bool(rules) and any(first_match(rules, it) for it in indexes)

    def knows(self, caller: Caller, store: str) -> bool:
        """Whether the caller may do anything in a configured store."""
        return self._rules.can_access(caller, store)

    def can_access_unconfigured(self, caller: Caller, store: str) -> bool:
        """The same of a store that a request names and that isn't configured."""
        return self._rules.can_access_uncached(caller, store)

    def deny(
        self,
        caller: Caller,
        method: Method,
        store: str,
        index: str,
        error: KekdError | None = None,
    ) -> None:
        """Records what isn't even begun: the caller may do nothing in that store, or `error`."""
        deed = Deed(caller, method, store, index, None)
        self._count(deed)
        if failure := error or deed.refusal:
            self._post_failed([deed], failure)

    def flush(self) -> None:
        """Records what is only counted yet."""
        if self._denials:
            self._denials.flush()

    def again(self, sweep: Deed) -> None:
        """Raises `AccessDeniedError` if it isn't allowed any more, and `UnauthenticatedError`."""
        sweep.caller.check()
        if not self._rules.applying(sweep.caller, sweep.method, sweep.store):
            sweep.deny()
            self._count(sweep)
            sweep.check()

    async def read(self, deeds: Sequence[Deed], work: Callable[[], Awaitable[T]]) -> T:
        """Does what changes nothing. Raises what the work does, and `AuditUnavailableError`."""
        if self._audit is None or not deeds:
            return await work()
        return await self._recorded(self._audit, deeds, work, require_audit=self._must_for_reads)

    @asynccontextmanager
    async def watched(self, deed: Deed) -> AsyncIterator[None]:
        """While it goes on. Raises `AuditUnavailableError`."""
        if self._audit is None:
            yield
            return
        await self._begin(self._audit, [deed], require_audit=self._must_for_reads)
        try:
            yield
        except BaseException as error:
            self._post_failed([deed], error)
            raise
        self._audit.post(lines([deed], "end"))

    async def write(self, deeds: Sequence[Deed], work: Callable[[], Awaitable[T]]) -> T:
        """Does a write, which is recorded before and when it is done. Once begun it goes on to its
        end, which is recorded, even if its caller doesn't wait any more. Raises what the work does,
        `StoreTimeoutError` and `AuditUnavailableError`.
        """
        if not deeds:
            return await work()
        if self._audit is None:
            ending = asyncio.ensure_future(work())
        else:
            await self._begin(self._audit, deeds, require_audit=self._must_for_writes)
            ending = asyncio.ensure_future(
                self._recorded(self._audit, deeds, work, require_audit=False)
            )
        lease = deeds[0].caller.lease
        lease.hold()  # also while nobody waits for it any more
        ending.add_done_callback(lambda _: lease.release())
        ending.add_done_callback(_seen)
        try:
            return await in_time(asyncio.shield(ending), deeds[0].store, writes=True)
        finally:
            deeds[0].caller.is_gone = not ending.done()

    def _count(self, *deeds: Deed) -> None:
        for it in deeds:
            self._decisions[it.method, it.decision] += 1

    async def _begin(self, audit: AuditLog, deeds: Sequence[Deed], *, require_audit: bool) -> None:
        begun = lines((it for it in deeds if not it.refusal), "begin")
        if not begun or not require_audit:
            audit.post(begun)
            return
        try:
            await audit.write(begun)
        except BaseException as error:
            self._post_failed(deeds, error)
            raise

    async def _recorded(
        self,
        audit: AuditLog,
        deeds: Sequence[Deed],
        work: Callable[[], Awaitable[T]],
        *,
        require_audit: bool,
    ) -> T:
        """Runs `work` and records how it ended. With `require_audit`, the record is written before
        the result is returned; otherwise it may be written later.
        """
        try:
            result = await work()
        except BaseException as error:
            self._post_failed(deeds, error)
            raise
        ended = self._ends(deeds)
        if require_audit and ended:
            await audit.write(ended)
        else:
            audit.post(ended)
        return result

    def _post_failed(self, deeds: Sequence[Deed], error: BaseException) -> None:
        if self._audit is None:
            return
        for it in deeds:
            it.failed(error)
        self._audit.post(self._ends(deeds))

    def _ends(self, deeds: Sequence[Deed]) -> list[str]:
        """A batch that is denied as a whole has one line, and denials beyond a rate have none."""
        if len(deeds) > 1 and all(it.is_denied for it in deeds):
            deeds[0].count = len(deeds)
            deeds = deeds[:1]
        throttle = self._denials
        return lines(
            (it for it in deeds if not it.is_denied or (throttle and throttle.admit(it))), "end"
        )


def _seen(ending: asyncio.Future[Any]) -> None:
    """Of one whose caller is gone: asyncio would log that nobody looked at how it ended."""
    if not ending.cancelled():
        ending.exception()


def _deed(caller: Caller, method: Method, store: str, index: str, rules: Iterable[Rule]) -> Deed:
    rule = first_match(rules, index)
    return Deed(caller, method, store, index, rule.name if rule else None)
