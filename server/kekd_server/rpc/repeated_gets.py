"""Answers repeated gets where they arrive."""

import logging
from collections.abc import Callable
from time import monotonic

from kekd_server.access.call_limits import CallLimits
from kekd_server.access.identity.principal import Principal
from kekd_server.access.repetition import Repetition
from kekd_server.observability.call_metrics import MethodMetrics
from kekd_server.rpc.in_flight import InFlightCalls
from kekd_server.rpc.ready_answers import ReadyAnswers

_log = logging.getLogger(__name__)


class RepeatedGets:
    """Answers a get that has a ready answer, without a task, a request context or a lease.

    Makes the checks of `handler.wrap`, in their order: shutdown, limits and rate, and then those of
    the grant. If one fails, it changes nothing, and the ordinary path makes them again, counts the
    call, and answers it. So it does if a check raises an exception. But if the audit line is
    written, `answer` raises the exception: the ordinary path would record the call a second time.
    """

    def __init__(
        self,
        answers: ReadyAnswers,
        principal: Principal,
        *,
        in_flight: InFlightCalls,
        limits: CallLimits,
        metrics: MethodMetrics,
    ) -> None:
        """`principal` makes all the calls, and never expires."""
        self._principal = principal
        self._find = answers.find
        self._in_flight = in_flight
        self._limits = limits
        self._metrics = metrics

    def answer(self, sent: bytes, peer: str) -> bytes | None:
        """See `AnswerNow`."""
        identity = self._principal.identity
        repetition = Repetition(self._principal, peer)
        try:
            ready = self._find(sent, identity)
            if (
                ready is None
                or self._in_flight.is_stopping
                or not self._limits.admits(identity, self._in_flight.running + 1)
                or not ready.grant.repeat(repetition)
            ):
                return None
            self._limits.charge(identity, 1)
            seconds = monotonic() - repetition.started_at
            self._metrics.observe_call(ready.grant.store_name, "OK", seconds)
        except Exception:
            if repetition.is_recorded:
                raise
            _log.exception("internal error")
            return None
        return ready.answer

    def begin(self) -> Callable[[], None]:
        """See `AnswerNow`. Call it right after `answer`, which checked the limits."""
        lease = self._limits.begin(self._principal.identity, is_watch=False)
        self._in_flight.begin()

        def end() -> None:
            self._in_flight.end()
            lease.release()

        return end
