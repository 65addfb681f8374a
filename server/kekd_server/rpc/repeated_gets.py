"""Answers repeated gets where they arrive."""

from time import perf_counter

from kekd_server.access.call_limits import CallLimits
from kekd_server.access.principal import Principal
from kekd_server.access.repetition import Repetition
from kekd_server.observability.call_metrics import MethodMetrics
from kekd_server.rpc.in_flight import InFlightCalls
from kekd_server.rpc.ready_answers import ReadyAnswers


class RepeatedGets:
    """Answers a get that has a ready answer, without a task, a request context or a lease.

    Makes the checks of `handler.wrap`, in their order: shutdown, limits and rate, and then those of
    the grant. If one fails, it changes nothing, and the ordinary path makes them again, counts the
    call, and answers it. The caller of `answer` has checked the certificate.
    """

    def __init__(
        self,
        answers: ReadyAnswers,
        *,
        in_flight: InFlightCalls,
        limits: CallLimits,
        metrics: MethodMetrics,
    ) -> None:
        self._find = answers.find
        self._in_flight = in_flight
        self._limits = limits
        self._metrics = metrics

    def answer(self, sent: bytes, principal: Principal, peer: str) -> bytes | None:
        """Returns the answer to the request, and None if the ordinary path must answer."""
        began = perf_counter()
        identity = principal.identity
        ready = self._find(sent, identity)
        if (
            ready is None
            or self._in_flight.is_stopping
            or not self._limits.admits(identity, self._in_flight.running + 1)
            or not ready.grant.repeat(Repetition(principal, peer))
        ):
            return None
        self._limits.charge(identity, 1)
        self._metrics.observe_call(ready.grant.store_name, "OK", perf_counter() - began)
        return ready.answer
