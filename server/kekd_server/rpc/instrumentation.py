"""What is noted of a call once it is over: in the metrics, and in a trace if there are such."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from types import TracebackType

import grpc
from google.protobuf.descriptor import MethodDescriptor

from kekd_server.model.errors import status_of
from kekd_server.observability.call_metrics import MethodMetrics
from kekd_server.observability.metrics import Metrics
from kekd_server.observability.tracing import Tracing
from kekd_server.rpc.errors import Context
from kekd_server.storage.registry import selected


class CallInstrumentation:
    """Of each call to one method."""

    def __init__(self, method: MethodDescriptor, metrics: Metrics, tracing: Tracing | None) -> None:
        self._service, self._name = method.containing_service.full_name, method.name
        self._metrics = metrics.calls.method(method.name)
        self._tracing = tracing

    def call(self, context: Context) -> AbstractContextManager[None]:
        counted = _Counted(self._metrics)
        if self._tracing is None:
            return counted
        return self._traced(self._tracing, counted, context)

    @contextmanager
    def _traced(self, tracing: Tracing, counted: "_Counted", context: Context) -> Iterator[None]:
        metadata = context.invocation_metadata() or ()
        with tracing.call(self._service, self._name, metadata) as ended:
            try:
                with counted:
                    yield
            finally:
                ended(selected.get(), grpc.StatusCode[counted.code].value[0], counted.code)


class _Counted:
    """A class, as a generator takes longer."""

    __slots__ = ("_begun", "_metrics", "code")

    def __init__(self, metrics: MethodMetrics) -> None:
        self.code = "OK"
        """In gRPC's spelling."""
        self._metrics = metrics

    def __enter__(self) -> None:
        selected.set("")
        self._begun = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            self.code = status_of(error)
        self._metrics.observe_call(selected.get(), self.code, perf_counter() - self._begun)
