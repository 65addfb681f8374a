"""Records each call in the metrics, and in a trace if tracing is on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from types import TracebackType
from typing import Self, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor

from kekd_server.model.errors import status_of
from kekd_server.observability.call_metrics import MethodMetrics
from kekd_server.observability.metrics import Metrics
from kekd_server.observability.tracing import Tracing
from kekd_server.rpc.errors import Context


class ObservedCall:
    # A class, because a generator takes longer.
    __slots__ = ("_began", "_metrics", "code", "store")

    def __init__(self, metrics: MethodMetrics) -> None:
        self.store = ""
        """Its name, once the call has selected it."""
        self.code = "OK"
        """In gRPC's spelling."""
        self._metrics = metrics

    def set_store(self, name: str) -> None:
        self.store = name

    def __enter__(self) -> Self:
        self._began = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            self.code = status_of(error)
        self._metrics.observe_call(self.store, self.code, perf_counter() - self._began)


Instrument: TypeAlias = Callable[[Context], AbstractContextManager[ObservedCall]]
"""Entered when a call begins, and left when it ends, before its error is translated."""


class CallInstrumentation:
    """Instruments the calls to one method."""

    def __init__(self, method: MethodDescriptor, metrics: Metrics, tracing: Tracing | None) -> None:
        self._service, self._name = method.containing_service.full_name, method.name
        self._metrics = metrics.calls.method(method.name)
        self._tracing = tracing

    def instrument(self, context: Context) -> AbstractContextManager[ObservedCall]:
        call = ObservedCall(self._metrics)
        if self._tracing is None:
            return call
        return self._trace(self._tracing, call, context)

    @contextmanager
    def _trace(
        self, tracing: Tracing, call: ObservedCall, context: Context
    ) -> Iterator[ObservedCall]:
        metadata = context.invocation_metadata() or ()
        with tracing.call(self._service, self._name, metadata) as ended:
            try:
                with call:
                    yield call
            finally:
                ended(call.store, grpc.StatusCode[call.code].value[0], call.code)
