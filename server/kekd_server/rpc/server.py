"""A gRPC server around the service: limits, health and reflection in one constructor."""

import asyncio
from collections.abc import Sequence
from typing import Final

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.listen import Listener
from kekd_server.rpc.calls import Calls
from kekd_server.rpc.errors import answering_errors, parser
from kekd_server.rpc.reflection import add_reflection
from kekd_server.rpc.servicer import EnvelopeServicer
from kekd_server.service import EnvelopeService

MAX_REQUEST_BYTES: Final = 64 * 1024
_SERVICE: Final = pb.DESCRIPTOR.services_by_name["EnvelopeService"]


class Server:
    """Answers on its listeners from `start` to `stop`."""

    def __init__(self, service: EnvelopeService) -> None:
        self._grpc = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                # Otherwise a second daemon could take the same port without either knowing.
                ("grpc.so_reuseport", 0),
            ]
        )
        self._calls = Calls()
        # First, as gRPC asks the handlers in turn, at each call.
        self._grpc.add_generic_rpc_handlers((_handler(EnvelopeServicer(service), self._calls),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        add_reflection(self._grpc, _SERVICE.full_name, health.SERVICE_NAME)

    async def start(self, listeners: Sequence[Listener]) -> None:
        """To be called while they are claimed. Raises `ListenError`."""
        for listener in listeners:
            listener.bind(self._grpc.add_insecure_port)
        await self._health.set(_SERVICE.full_name, health_pb2.HealthCheckResponse.SERVING)
        await self._grpc.start()

    async def stop(self, grace: float) -> None:
        """Says NOT_SERVING, takes no more calls, gives those in flight `grace` seconds and cancels
        what is left: late calls, and health and reflection streams, which have no end of their own.
        """
        await self._health.enter_graceful_shutdown()
        stopped = asyncio.create_task(self._grpc.stop(grace))
        await self._calls.finished(grace)
        await self._grpc.stop(None)
        await stopped


def _handler(servicer: EnvelopeServicer, calls: Calls) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        _SERVICE.full_name,
        {
            method.name: grpc.unary_unary_rpc_method_handler(
                answering_errors(getattr(servicer, method.name), calls),
                request_deserializer=parser(GetMessageClass(method.input_type)),
                response_serializer=GetMessageClass(method.output_type).SerializeToString,
            )
            for method in _SERVICE.methods
        },
    )
