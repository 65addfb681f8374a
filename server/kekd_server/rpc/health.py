"""The standard health service, which has four kinds of answers.

""                               the process is alive: SERVING for as long as it can say so
kekd.v1.EnvelopeService          it isn't draining, and one of its stores at least is healthy: it
                                 answers and can be written
kekd.v1.EnvelopeService.reads    it isn't draining, and one of its stores at least answers
the name of a store              that store is healthy
"""

import asyncio
from typing import Any, Final

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.health import Health

_READY: Final = pb.DESCRIPTOR.services_by_name["EnvelopeService"].full_name
_READS: Final = f"{_READY}.reads"


class _Servicer(health.aio.HealthServicer):
    async def List(self, _request: Any, context: Any) -> Any:
        """Without the stores: whoever asks for one has to know it."""
        messages: Any = health_pb2  # the stubs don't have those of List yet
        asked = {it: messages.HealthCheckRequest(service=it) for it in ("", _READY, _READS)}
        said = {it: await self.Check(request, context) for it, request in asked.items()}
        return messages.HealthListResponse(statuses=said)


class HealthService:
    """https://github.com/grpc/grpc/blob/master/doc/health-checking.md"""

    def __init__(self, health_: Health) -> None:
        self._health = health_
        self._servicer = _Servicer()
        self._draining = False
        self._keeper: asyncio.Task[None] | None = None

    def add_to(self, server: grpc.aio.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        await self._report()
        self._keeper = asyncio.create_task(self._health.keep_up(self._report))

    async def drain(self) -> None:
        """From here on, nothing but the process is said to serve."""
        self._draining = True
        if self._keeper:
            self._keeper.cancel()
        await self._report()

    async def _report(self) -> None:
        stores = self._health.stores()
        await self._set(_READY, any(store.healthy for store in stores))
        await self._set(_READS, any(store.readable for store in stores))
        for store in stores:
            await self._set(store.name, store.healthy)

    async def _set(self, service: str, serving: bool) -> None:  # noqa: FBT001  (what is said)
        said = health_pb2.HealthCheckResponse
        good = serving and not self._draining
        await self._servicer.set(service, said.SERVING if good else said.NOT_SERVING)
