"""The standard health service, which has four kinds of answers.

""                               the process is alive: SERVING for as long as it can say so
kekd.v1.EnvelopeService          it isn't draining, and one of its stores at least is healthy: it
                                 answers and can be written
kekd.v1.EnvelopeService.reads    it isn't draining, and one of its stores at least answers
the name of a store              that store is healthy. Where the caller may do nothing in it, it is
                                 as unknown as one that isn't there
"""

import asyncio
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.access.principal import Caller
from kekd_server.access.rate_limits import Limits
from kekd_server.daemon_status import DaemonStatus
from kekd_server.model.errors import InvalidRequestError, KekdError, UnauthenticatedError
from kekd_server.rpc.authentication import Authenticator
from kekd_server.rpc.errors import Context, abort_known
from kekd_server.storage.health import Health

_READY: Final = pb.DESCRIPTOR.services_by_name["EnvelopeService"].full_name
_READS: Final = f"{_READY}.reads"
_MAX_NAME: Final = 8192
"""Characters. No store has as many, and a watch keeps its request for as long as it lasts."""

Response: Final[Any] = health_pb2.HealthCheckResponse


class HealthService:
    """https://github.com/grpc/grpc/blob/master/doc/health-checking.md"""

    def __init__(self, health: Health, status: DaemonStatus, limits: Limits) -> None:
        self._health = health
        self._status = status
        self._limits = limits
        self._draining = False
        self._background_task: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()
        """Set once at the next change; there is another by then."""

    def add_to(self, server: grpc.aio.Server, callers: Authenticator) -> None:
        servicer = _Servicer(self, callers, self._limits)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    async def start(self) -> None:
        self._background_task = asyncio.create_task(self._health.run(self._report))

    async def drain(self) -> None:
        """From here on, nothing but the process is said to serve."""
        self._draining = True
        if self._background_task:
            self._background_task.cancel()
        await self._report()

    def of(self, service: str, caller: Caller | None) -> int | None:
        """None of a service that there is not, for this caller."""
        if service == "":
            return int(Response.SERVING)
        stores = self._health.stores()
        if service == _READY:
            return self._serving(any(store.healthy for store in stores))
        if service == _READS:
            return self._serving(any(store.readable for store in stores))
        visible = self._status.stores(caller) if caller else ()
        for store in visible:
            if store.name == service:
                return self._serving(store.healthy)
        return None

    def _serving(self, good: bool) -> int:  # noqa: FBT001
        is_good = good and not self._draining
        return int(Response.SERVING if is_good else Response.NOT_SERVING)

    async def _report(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class _Servicer(health_pb2_grpc.HealthServicer):
    """Of one listener."""

    def __init__(self, health: HealthService, callers: Authenticator, limits: Limits) -> None:
        self._health = health
        self._callers = callers
        self._limits = limits

    async def Check(self, request: Any, context: Context) -> Any:
        status = self._health.of(request.service, self._caller(context))
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return Response(status=status)

    async def List(self, _request: Any, _context: Context) -> Any:
        """Without the stores: whoever asks for one has to know it."""
        messages: Any = health_pb2  # the stubs don't have those of List yet
        said = {it: Response(status=self._health.of(it, None)) for it in ("", _READY, _READS)}
        return messages.HealthListResponse(statuses=said)

    async def Watch(self, request: Any, context: Context) -> None:
        try:
            if len(request.service) > _MAX_NAME:
                raise InvalidRequestError(
                    f"the service name is too long: it has more than {_MAX_NAME} characters; name a"
                    " store that the daemon has."
                )
            caller = self._callers.of(context)
            lease = self._limits.begin(caller.identity, is_watch=True)
        except KekdError as error:
            await abort_known(error, request, context)
        try:
            await self._send_changes(request.service, context)
        finally:
            lease.release()

    async def _send_changes(self, service: str, context: Context) -> None:
        """Every change of the status, for as long as the caller listens."""
        sent = None
        while True:
            changed = self._health.changed
            status = self._health.of(service, self._caller(context))
            status = Response.SERVICE_UNKNOWN if status is None else status
            if status != sent:
                await context.write(Response(status=status))
                sent = status
            await changed.wait()

    def _caller(self, context: Context) -> Caller | None:
        try:
            return self._callers.of(context)
        except UnauthenticatedError:
            return None
