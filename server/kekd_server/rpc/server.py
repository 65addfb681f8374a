"""Serves the daemon's listeners: one gRPC server for each, around one service."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1.health import SERVICE_NAME as HEALTH

from kekd_proto.v1 import daemon_pb2, envelope_pb2
from kekd_server.access.call_limits import CallLimits
from kekd_server.daemon_status import DaemonStatus
from kekd_server.listeners.descriptor_limit import connections_per_listener
from kekd_server.listeners.engine import AddPort
from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.listener import Listener
from kekd_server.listeners.tcp import TcpListener, TlsFiles
from kekd_server.observability.metrics import Metrics
from kekd_server.observability.tracing import Tracing
from kekd_server.rpc.answer_now import AnswerNowServer
from kekd_server.rpc.authentication import Authenticator
from kekd_server.rpc.engines import ConnectionLimits, make_server, stop
from kekd_server.rpc.errors import parser
from kekd_server.rpc.handler import Method, wrap
from kekd_server.rpc.health import HealthService
from kekd_server.rpc.in_flight import InFlightCalls
from kekd_server.rpc.instrumentation import CallInstrumentation
from kekd_server.rpc.ready_answers import ReadyAnswers
from kekd_server.rpc.reflection import add_reflection
from kekd_server.rpc.repeated_gets import RepeatedGets
from kekd_server.rpc.servicer import EnvelopeServicer
from kekd_server.rpc.status_servicer import DaemonServicer
from kekd_server.rpc.tls import server_credentials
from kekd_server.rpc.unparsed_get import UnparsedGet
from kekd_server.service import EnvelopeService
from kekd_server.storage.health import Health

if TYPE_CHECKING:
    from kekd_server.listeners.certificates import Certificates

_SERVICE: Final = envelope_pb2.DESCRIPTOR.services_by_name["EnvelopeService"]
_GET: Final = _SERVICE.methods_by_name["GetEnvelope"]
_STATUS: Final = daemon_pb2.DESCRIPTOR.services_by_name["DaemonService"]
_CHECK_INTERVAL: Final = 1.0
_WATCH_SHUTDOWN_TIMEOUT: Final = 1.0
"""Seconds to notify subscribers of the shutdown, whatever the grace. Most need milliseconds."""

_log = logging.getLogger(__name__)


class Server:
    """Serves its listeners from `start` to `stop`."""

    def __init__(  # noqa: PLR0913
        self,
        service: EnvelopeService,
        status: DaemonStatus,
        certificates: "Mapping[TlsFiles, Certificates]",
        *,
        health: Health,
        limits: CallLimits,
        connection_limits: ConnectionLimits,
        metrics: Metrics,
        tracing: Tracing | None,
        ready_answers: ReadyAnswers | None,
        end_watches: Callable[[], None],
    ) -> None:
        self._status = status
        self._certificates = certificates
        self._limits = limits
        self._connection_limits = connection_limits
        self._calls, self._watches = InFlightCalls(), InFlightCalls()
        self._metrics = metrics
        metrics.set_versions(grpc=grpc.__version__)
        self._tracing = tracing
        self._end_watches = end_watches
        self._ready_answers = ready_answers
        self._servicer = EnvelopeServicer(service, ready_answers)
        self._health = HealthService(health, status, limits)
        self._max_connections = 0
        self._servers: dict[Listener, grpc.aio.Server] = {}
        self._background_tasks: list[asyncio.Task[None]] = []

    async def start(self, listeners: Sequence[Listener]) -> None:
        """Expects listeners that are acquired. Raises `ListenError`."""
        self._max_connections = connections_per_listener(len(listeners))
        for listener in listeners:
            self._servers[listener] = self._bind(listener)
        await self._health.start()
        for server in self._servers.values():
            await server.start()
        self._background_tasks = [
            asyncio.create_task(self._supervise(listener)) for listener in listeners
        ]

    def stop_accepting(self) -> None:
        """Refuses new calls. Call it before `drain`: no client that sees NOT_SERVING is served."""
        self._calls.stop_accepting()
        self._watches.stop_accepting()

    async def drain(self, grace: float) -> None:
        """Reports NOT_SERVING, waits `grace` seconds for calls in flight, and cancels the rest:
        late calls, and the streams of health and reflection, which don't end by themselves.
        """
        await self._health.drain()
        self._end_watches()
        for task in self._background_tasks:
            task.cancel()
        await asyncio.gather(*self._background_tasks, return_exceptions=True)
        idle = asyncio.ensure_future(self._wait_idle(grace))
        await asyncio.gather(*(stop(server, idle) for server in self._servers.values()))

    @property
    def running(self) -> int:
        """The number of calls and watches."""
        return self._calls.running + self._watches.running

    async def _wait_idle(self, grace: float) -> None:
        watches = self._watches.wait_idle(_WATCH_SHUTDOWN_TIMEOUT)
        await asyncio.gather(self._calls.wait_idle(grace), watches)

    def _bind(self, listener: Listener) -> grpc.aio.Server:
        limits = self._connection_limits
        server = make_server(listener, limits, max_connections=self._max_connections)
        self._add_services(server, listener)
        listener.bind(self._add_port(server, listener))
        return server

    def _add_port(self, server: grpc.aio.Server, listener: Listener) -> AddPort:
        if isinstance(listener, TcpListener) and listener.tls:
            credentials = server_credentials(self._certificates[listener.tls])
            return partial(server.add_secure_port, server_credentials=credentials)
        return server.add_insecure_port

    async def _supervise(self, listener: Listener) -> None:
        """Replaces a server that ended by itself, as grpcio's own accept loop does at any call
        whose path isn't UTF-8.
        """
        while not self._calls.is_stopping:
            try:
                # Polls with a timeout: without one, open calls delay the result.
                await self._servers[listener].wait_for_termination(_CHECK_INTERVAL)
            except Exception as error:  # noqa: BLE001  (any failure needs a new server)
                _log.error("%s: gRPC's server ended, restarting it: %s", listener, error)
                await self._replace(listener)

    async def _replace(self, listener: Listener) -> None:
        await self._servers[listener].stop(None)
        while True:
            try:
                self._servers[listener] = self._bind(listener)
                break
            except ListenError as error:
                _log.error("%s", error)
                await asyncio.sleep(_CHECK_INTERVAL)
        await self._servers[listener].start()

    def _add_services(self, server: grpc.aio.Server, listener: Listener) -> None:
        authenticator = Authenticator(listener)
        # First, because grpcio tries the handlers in this order at each call.
        self._add(server, _SERVICE, self._servicer, authenticator)
        if isinstance(server, AnswerNowServer):
            self._answer_repeated_gets(server, authenticator)
        self._add(server, _STATUS, DaemonServicer(self._status, listener.engine), authenticator)
        self._health.add_to(server, authenticator)
        add_reflection(server, _SERVICE.full_name, _STATUS.full_name, HEALTH)

    def _answer_repeated_gets(self, server: AnswerNowServer, authenticator: Authenticator) -> None:
        if not self._ready_answers or self._tracing or not (role := authenticator.role):
            return
        path = f"/{_SERVICE.full_name}/{_GET.name}"
        server.answers_now[path] = RepeatedGets(
            self._ready_answers,
            role,
            in_flight=self._calls,
            limits=self._limits,
            metrics=self._metrics.calls.method(_GET.name),
        )

    def _add(
        self,
        server: grpc.aio.Server,
        service: ServiceDescriptor,
        servicer: object,
        authenticator: Authenticator,
    ) -> None:
        methods = {
            method.name: self._handler(method, getattr(servicer, method.name), authenticator)
            for method in service.methods
        }
        handler = grpc.method_handlers_generic_handler(service.full_name, methods)
        server.add_generic_rpc_handlers((handler,))
        server.add_registered_method_handlers(service.full_name, methods)

    def _handler(
        self, descriptor: MethodDescriptor, method: Method, authenticator: Authenticator
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        is_watch = descriptor.server_streaming
        make_handler = (
            grpc.unary_stream_rpc_method_handler
            if is_watch
            else grpc.unary_unary_rpc_method_handler
        )
        return make_handler(
            wrap(
                method,
                in_flight=self._watches if is_watch else self._calls,
                authenticator=authenticator,
                limits=self._limits,
                is_watch=is_watch,
                instrument=CallInstrumentation(descriptor, self._metrics, self._tracing).instrument,
            ),
            request_deserializer=_deserializer(descriptor),
            response_serializer=_serialize,
        )


def _deserializer(descriptor: MethodDescriptor) -> Callable[[bytes], Any]:
    return UnparsedGet if descriptor == _GET else parser(GetMessageClass(descriptor.input_type))


def _serialize(response: Message | bytes) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()
