"""OpenTelemetry traces, configured by the standard variables
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).

Without those variables, nothing of OpenTelemetry is imported. opentelemetry-instrumentation-grpc is
unsuitable: it is a beta, and an interceptor, which doesn't know the store of a call and runs before
errors are translated.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Self

from kekd_common.install import install_command
from kekd_common.version import __version__
from kekd_server.model.errors import KekdError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENABLING_VARIABLES: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
)
_SERVER_ERRORS: Final = {"DATA_LOSS", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNKNOWN"}
"""The codes that count as the server's error rather than the client's
(https://opentelemetry.io/docs/specs/semconv/rpc/grpc/)."""

_log = logging.getLogger(__name__)

EndCall = Callable[[str, int, str], None]
"""Records the end of a call: its store, and its status code by number and name."""


class Tracing:
    """Makes a span for each call, and a child span for each store operation of the call."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import propagate, trace  # noqa: PLC0415  (an extra)

        self._provider = provider
        self._tracer = provider.get_tracer("kekd", __version__)
        self._extract = propagate.extract
        self._trace = trace

    @classmethod
    def from_environment(cls) -> Self | None:
        """Returns None unless the variables enable tracing. Invalid variables cause a warning and
        not a failed start, because serving keys matters more than traces.
        """
        if not any(map(os.environ.get, _ENABLING_VARIABLES)):
            return None
        exporter = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
        disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        if exporter == "none" or disabled:
            return None
        if error_message := _problem(exporter):
            _log.warning("tracing is off: %s", error_message)
            return None
        return cls(_provider())

    @contextmanager
    def call(
        self, service: str, method: str, metadata: Iterable[tuple[str, str | bytes]]
    ) -> Iterator[EndCall]:
        """Makes a span for a call, as part of the trace that the request's metadata names."""
        trace = self._trace
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        with self._tracer.start_as_current_span(
            f"{service}/{method}",
            context=self._extract(carrier),
            kind=trace.SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
            record_exception=False,  # its text may name an index
            set_status_on_exception=False,
        ) as span:

            def end_call(store: str, code: int, name: str) -> None:
                span.set_attribute("rpc.grpc.status_code", code)
                if store:
                    span.set_attribute("kekd.store", store)
                if name in _SERVER_ERRORS:
                    span.set_status(trace.StatusCode.ERROR, name)

            yield end_call

    @contextmanager
    def operation(self, store: str, name: str) -> Iterator[None]:
        """Makes a span for a store operation that is part of a call."""
        trace = self._trace
        if not trace.get_current_span().get_span_context().is_valid:
            # Not part of a call: a health check.
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
        """Sends the remaining spans. Has no timeout."""
        self._provider.shutdown()


def _problem(exporter: str) -> str | None:
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    if exporter != "otlp":
        return f"OTEL_TRACES_EXPORTER is '{exporter}'; kekd supports 'otlp' and 'none'"
    if protocol not in (None, "", "http/protobuf"):
        return f"the OTLP protocol is '{protocol}'; kekd supports 'http/protobuf'"
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        return f"OpenTelemetry isn't installed; run {install_command('otel')}"
    return None


def _provider() -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    defaults = Resource.create({"service.name": "kekd", "service.version": __version__})
    # The operator's OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override the defaults.
    provider = TracerProvider(
        resource=defaults.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
