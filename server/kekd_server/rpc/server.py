"""A gRPC server around the service: limits, health and reflection in one constructor."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1.health import SERVICE_NAME as HEALTH

from kekd_proto.v1 import daemon_pb2, envelope_pb2
from kekd_server.access.rate_limits import Limits
from kekd_server.daemon_status import DaemonStatus
from kekd_server.listeners.descriptors import connections_per_listener
from kekd_server.listeners.engine import AddPort
from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.listener import Listener
from kekd_server.listeners.tcp import TcpListener, TlsFiles
from kekd_server.observability.metrics import Metrics
from kekd_server.observability.tracing import Tracing
from kekd_server.rpc.authentication import Authenticator
from kekd_server.rpc.engines import ConnectionLimits, make_server, stop
from kekd_server.rpc.errors import parser
from kekd_server.rpc.handler import Method, answering
from kekd_server.rpc.health import HealthService
from kekd_server.rpc.in_flight import InFlightCalls
from kekd_server.rpc.instrumentation import CallInstrumentation
from kekd_server.rpc.reflection import add_reflection
from kekd_server.rpc.servicer import EnvelopeServicer
from kekd_server.rpc.status_servicer import DaemonServicer
from kekd_server.rpc.tls import server_credentials
from kekd_server.service import EnvelopeService
from kekd_server.storage.health import Health

if TYPE_CHECKING:
    from kekd_server.listeners.certificates import Certificates

_SERVICE: Final = envelope_pb2.DESCRIPTOR.services_by_name["EnvelopeService"]
_STATUS: Final = daemon_pb2.DESCRIPTOR.services_by_name["DaemonService"]
_LOOK_SECONDS: Final = 1.0
_LAST_WORDS_SECONDS: Final = 1.0
"""For watchers to be told of the end, whatever the grace; most take a few milliseconds."""

_log = logging.getLogger(__name__)


class Server:
    """Answers on its listeners from `start` to `stop`. Each has a gRPC server of its own, and they
    share the service.
    """

    def __init__(  # noqa: PLR0913
        self,
        service: EnvelopeService,
        status: DaemonStatus,
        certificates: "Mapping[TlsFiles, Certificates]",
        *,
        health: Health,
        limits: Limits,
        lasting: ConnectionLimits,
        metrics: Metrics,
        tracing: Tracing | None,
    ) -> None:
        self._service = service
        self._status = status
        self._certificates = certificates
        self._limits = limits
        self._lasting = lasting
        self._calls, self._streams = InFlightCalls(), InFlightCalls()
        self._metrics = metrics
        self._tracing = tracing
        self._servicer = EnvelopeServicer(service)
        self._health = HealthService(health, status, limits)
        self._max_connections = 0
        self._servers: dict[Listener, grpc.aio.Server] = {}
        self._background_tasks: list[asyncio.Task[None]] = []

    async def start(self, listeners: Sequence[Listener]) -> None:
        """To be called while they are acquire. Raises `ListenError`."""
        self._max_connections = connections_per_listener(len(listeners))
        for listener in listeners:
            self._servers[listener] = self._bound(listener)
        await self._health.start()
        for server in self._servers.values():
            await server.start()
        self._background_tasks = [
            asyncio.create_task(self._supervise(listener)) for listener in listeners
        ]

    async def stop(self, grace: float) -> None:
        """Says NOT_SERVING, takes no more calls, gives those in flight `grace` seconds and cancels
        what is left: late calls, and health and reflection streams, which have no end of their own.
        """
        await self._health.drain()
        self._calls.stop_accepting()
        self._streams.stop_accepting()
        self._service.end_watches()
        for task in self._background_tasks:
            task.cancel()
        await asyncio.gather(*self._background_tasks, return_exceptions=True)
        finished = asyncio.ensure_future(self._finished(grace))
        await asyncio.gather(*(stop(server, finished) for server in self._servers.values()))

    @property
    def running(self) -> int:
        """Calls and watches."""
        return self._calls.running + self._streams.running

    async def _finished(self, grace: float) -> None:
        streams = self._streams.finished(_LAST_WORDS_SECONDS)
        await asyncio.gather(self._calls.finished(grace), streams)

    def _bound(self, listener: Listener) -> grpc.aio.Server:
        server = make_server(listener, self._lasting, max_connections=self._max_connections)
        self._add_services(server, listener)
        listener.bind(self._add_port(server, listener))
        return server

    def _add_port(self, server: grpc.aio.Server, listener: Listener) -> AddPort:
        if isinstance(listener, TcpListener) and listener.tls:
            credentials = server_credentials(self._certificates[listener.tls])
            return partial(server.add_secure_port, server_credentials=credentials)
        return server.add_insecure_port

    async def _supervise(self, listener: Listener) -> None:
        """Replaces a server that ended by itself. grpcio's own accept loop does so at any call
        whose path isn't UTF-8.
        """
        while not self._calls.refused:
            try:
                # Tells of its end in time only when it is asked again and again: calls that are
                # still open hold up the end itself.
                await self._servers[listener].wait_for_termination(_LOOK_SECONDS)
            except Exception as error:  # noqa: BLE001  (whatever it was)
                _log.error("%s: starting anew, as gRPC gave up: %s", listener, error)
                await self._replace(listener)

    async def _replace(self, listener: Listener) -> None:
        await self._servers[listener].stop(None)
        while True:
            try:
                self._servers[listener] = self._bound(listener)
                break
            except ListenError as error:
                _log.error("%s", error)
                await asyncio.sleep(_LOOK_SECONDS)
        await self._servers[listener].start()

    def _add_services(self, server: grpc.aio.Server, listener: Listener) -> None:
        callers = Authenticator(listener)
        # First, as grpcio asks the handlers in turn, at each call.
        self._add(server, _SERVICE, self._servicer, callers)
        self._add(server, _STATUS, DaemonServicer(self._status, listener.engine), callers)
        self._health.add_to(server, callers)
        add_reflection(server, _SERVICE.full_name, _STATUS.full_name, HEALTH)

    def _add(
        self,
        server: grpc.aio.Server,
        service: ServiceDescriptor,
        servicer: object,
        callers: Authenticator,
    ) -> None:
        methods = {
            it.name: self._method(it, getattr(servicer, it.name), callers) for it in service.methods
        }
        handler = grpc.method_handlers_generic_handler(service.full_name, methods)
        server.add_generic_rpc_handlers((handler,))
        server.add_registered_method_handlers(service.full_name, methods)

    def _method(
        self, described: MethodDescriptor, method: Method, callers: Authenticator
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        streams = described.server_streaming
        handler = (
            grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        )
        return handler(
            answering(
                method,
                calls=self._streams if streams else self._calls,
                callers=callers,
                limits=self._limits,
                is_watch=streams,
                observed=CallInstrumentation(described, self._metrics, self._tracing).call,
            ),
            request_deserializer=parser(GetMessageClass(described.input_type)),
            response_serializer=GetMessageClass(described.output_type).SerializeToString,
        )
