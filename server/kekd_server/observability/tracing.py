"""OpenTelemetry's traces, for a daemon that has its SDK and is told where to send them.

Configured as every program with it, by the variables of
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/. Nothing of it is
imported otherwise. Not by way of opentelemetry-instrumentation-grpc: that is an interceptor, which
knows nothing of stores and sees a call again after its failure was translated; and a beta.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Self

from kekd_server.model.errors import KekdError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ASKED_FOR_BY: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
)
_FAULTS: Final = {"DATA_LOSS", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNKNOWN"}
"""The codes that are a server's failure rather than its caller's
(https://opentelemetry.io/docs/specs/semconv/rpc/grpc/)."""

_log = logging.getLogger(__name__)

Ended = Callable[[str, int, str], None]
"""Is told how a call ended: its store, and its status code by number and name."""


class Tracing:
    """Makes a span of each call, and of each operation of a store a child of its call's."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import propagate, trace  # noqa: PLC0415  (an extra)

        self._provider = provider
        self._tracer = provider.get_tracer("kekd", version("kekd"))
        self._extract = propagate.extract
        self._trace = trace

    @classmethod
    def from_environment(cls) -> Self | None:
        """None unless it is asked for. What is asked for and can't be had is only warned of: a
        daemon that guards keys doesn't stay down for its traces.
        """
        if not any(map(os.environ.get, _ASKED_FOR_BY)):
            return None
        exporter = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
        disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        if exporter == "none" or disabled:
            return None
        if error_message := _unusable(exporter):
            _log.warning("calls aren't traced: %s", error_message)
            return None
        return cls(_provider())

    @contextmanager
    def call(
        self, service: str, method: str, metadata: Iterable[tuple[str, str | bytes]]
    ) -> Iterator[Ended]:
        """A span for a call, in the trace that its caller's metadata names."""
        trace = self._trace
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        with self._tracer.start_as_current_span(
            f"{service}/{method}",
            context=self._extract(carrier),
            kind=trace.SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
            record_exception=False,  # whose text may name an index
            set_status_on_exception=False,
        ) as span:

            def ended(store: str, code: int, name: str) -> None:
                span.set_attribute("rpc.grpc.status_code", code)
                if store:
                    span.set_attribute("kekd.store", store)
                if name in _FAULTS:
                    span.set_status(trace.StatusCode.ERROR, name)

            yield ended

    @contextmanager
    def operation(self, store: str, name: str) -> Iterator[None]:
        """A span for what a store does, within the call that it does it for."""
        trace = self._trace
        if not trace.get_current_span().get_span_context().is_valid:
            # Nobody's call: a look whether the store is well.
            yield
            return
        with self._tracer.start_as_current_span(
            f"store {name}",
            attributes={"kekd.store": store, "kekd.operation": name},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except KekdError as error:
                span.set_attribute("error.type", error.reason)
                raise

    def close(self) -> None:
        """Sends what wasn't sent yet. Takes as long as it takes."""
        self._provider.shutdown()


def _unusable(exporter: str) -> str | None:
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    if exporter != "otlp":
        return f"OTEL_TRACES_EXPORTER is '{exporter}', and kekd has 'otlp' and 'none' alone"
    if protocol not in (None, "", "http/protobuf"):
        return f"the OTLP protocol is '{protocol}', and kekd has 'http/protobuf' alone"
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        return "OpenTelemetry isn't installed: pip install 'kekd[otel]'"
    return None


def _provider() -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    ours = Resource.create({"service.name": "kekd", "service.version": version("kekd")})
    # What the operator says of the service goes before what we say.
    provider = TracerProvider(
        resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
