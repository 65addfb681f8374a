"""Who may do what, and the record of it: nothing is done before it has passed here."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, Final, Literal, TypeVar

from kekd_policy import METHODS, Method, Rule, applying
from kekd_server.audit import AuditLog
from kekd_server.caller import Caller
from kekd_server.deed import Deed
from kekd_server.metrics import Metrics

T = TypeVar("T")
OnFailure = Literal["deny", "allow"]

_MOST_CALLERS: Final = 16_384
_LOCAL: Final = (Rule(name="local", identities=("*",), methods=("*",)),)
"""Where there is no policy: whoever reaches a local listener may do anything."""
_UNRECORDED: Final = nullcontext()


class Guard:
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
        metrics.follow_decisions(self._decisions)
        self._audit = audit
        self._on_failure = on_failure

    def replace(self, policy: Sequence[Rule] | None) -> None:
        # Of the same few callers it is asked again and again, though of many indexes.
        self._applying = lru_cache(_MOST_CALLERS)(partial(_applying, policy))

    def deed(self, caller: Caller, method: Method, store: str, index: str) -> Deed:
        rule = self._rule_for(caller, method, store, index)
        return self._counted(Deed(caller, method, store, index, rule))

    def sweep(self, caller: Caller, method: Method, store: str, prefix: str) -> Deed:
        """What is done to all those indexes with a prefix to which the caller may do it, and which
        he may read. It is denied if there can't be any.
        """
        rule = self._rule_for(caller, method, store, None)
        return self._counted(Deed(caller, method, store, f"{prefix}*", rule))

    def shows(self, sweep: Deed, index: str) -> bool:
        """Whether an index is one of those."""
        return all(
            self._rule_for(sweep.caller, method, sweep.store, index) is not None
            for method in (sweep.method, "read")
        )

    def knows(self, caller: Caller, store: str) -> bool:
        """Whether he may do anything in a store."""
        return any(self._rule_for(caller, it, store, None) is not None for it in METHODS)

    def again(self, sweep: Deed) -> None:
        """Raises `AccessDeniedError` if it isn't allowed any more, and `UnauthenticatedError`."""
        sweep.caller.check()
        if self._rule_for(sweep.caller, sweep.method, sweep.store, None) is None:
            sweep.deny()
            self._counted(sweep).check()

    def recorded(self, *deeds: Deed) -> AbstractAsyncContextManager[None]:
        """While they are done, which are reads of one method, or a watch. Raises
        `AuditUnavailableError`.
        """
        if self._audit is None or not deeds:
            return _UNRECORDED
        return _Recorded(self._audit, deeds, must=self._on_failure == "deny")

    async def write(self, deeds: Sequence[Deed], work: Callable[[], Awaitable[T]]) -> T:
        """Does a write, which is recorded before and when it is done. Once begun it goes on to its
        end, which is recorded, even if its caller doesn't wait any more. Raises what the work does,
        and `AuditUnavailableError`.
        """
        if self._audit is None or not deeds:
            return await work()
        await self._begin(self._audit, deeds)
        ending = asyncio.ensure_future(_ended(self._audit, deeds, work))
        ending.add_done_callback(_seen)
        return await asyncio.shield(ending)

    async def _begin(self, audit: AuditLog, deeds: Sequence[Deed]) -> None:
        lines = [it.line("begin") for it in deeds if not it.refusal]
        if not lines or self._on_failure == "allow":
            audit.post(lines)
            return
        try:
            await audit.write(lines)
        except BaseException as error:
            _post_failed(audit, deeds, error)
            raise

    def _counted(self, deed: Deed) -> Deed:
        self._decisions[deed.method, deed.decision] += 1
        return deed

    def _rule_for(
        self, caller: Caller, method: Method, store: str, index: str | None
    ) -> str | None:
        """The name of the rule that lets it happen."""
        rules = self._applying(caller.identity, caller.is_local, method, store)
        for rule in rules:
            if index is None or rule.covers(index):
                return rule.name
        return None


class _Recorded(AbstractAsyncContextManager[None]):
    """A class, as a generator takes longer than the rest of it."""

    def __init__(self, audit: AuditLog, deeds: Sequence[Deed], *, must: bool) -> None:
        self._audit = audit
        self._deeds = deeds
        self._must = must

    async def __aenter__(self) -> None:
        if self._deeds[0].method == "watch":
            await self._tell([it.line("begin") for it in self._deeds if not it.refusal])

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error:
            _post_failed(self._audit, self._deeds, error)
        else:
            await self._tell([it.line("end") for it in self._deeds])

    async def _tell(self, lines: Sequence[str]) -> None:
        if self._must and lines:
            await self._audit.write(lines)
        else:
            self._audit.post(lines)


async def _ended(audit: AuditLog, deeds: Sequence[Deed], work: Callable[[], Awaitable[T]]) -> T:
    try:
        result = await work()
    except BaseException as error:
        _post_failed(audit, deeds, error)
        raise
    audit.post([it.line("end") for it in deeds])
    return result


def _post_failed(audit: AuditLog, deeds: Sequence[Deed], error: BaseException) -> None:
    for it in deeds:
        it.failed(error)
    audit.post([it.line("end") for it in deeds])


def _seen(ending: asyncio.Future[Any]) -> None:
    """Of one whose caller is gone: asyncio would log that nobody looked at how it ended."""
    if not ending.cancelled():
        ending.exception()


def _applying(
    policy: Sequence[Rule] | None,
    identity: str,
    is_local: bool,  # noqa: FBT001  (lru_cache takes positions faster)
    method: Method,
    store: str,
) -> tuple[Rule, ...]:
    if policy is None:
        return _LOCAL if is_local else ()
    return applying(policy, identity, method, store)
