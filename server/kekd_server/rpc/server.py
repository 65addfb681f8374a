"""A gRPC server around the service: limits, health and reflection in one constructor."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1 import envelope_pb2_grpc as pb_grpc
from kekd_server.listen import Listener
from kekd_server.rpc.reflection import add_reflection
from kekd_server.rpc.servicer import EnvelopeServicer
from kekd_server.service import EnvelopeService

MAX_REQUEST_BYTES: Final = 64 * 1024
SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["EnvelopeService"].full_name


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
        self._claims = ExitStack()
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        pb_grpc.add_EnvelopeServiceServicer_to_server(EnvelopeServicer(service), self._grpc)
        add_reflection(self._grpc, SERVICE_NAME, health.SERVICE_NAME)

    async def start(self, listeners: Sequence[Listener]) -> None:
        """Raises `ListenError`, and then listens nowhere."""
        with ExitStack() as claims:
            for listener in listeners:
                claims.enter_context(listener.claimed())
                listener.bind(self._grpc.add_insecure_port)
            self._claims = claims.pop_all()
        await self._health.set(SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
        await self._grpc.start()

    async def stop(self, grace: float) -> None:
        """Says NOT_SERVING, takes no more calls, gives those in flight `grace` seconds and cancels
        what is left.
        """
        await self._health.enter_graceful_shutdown()
        await self._grpc.stop(grace)
        self._claims.close()
