"""Serves the standard health service. It knows four kinds of services:

""                               SERVING while the process is alive
kekd.v1.EnvelopeService          the daemon isn't draining, and at least one store is healthy: it
                                 answers and can be written
kekd.v1.EnvelopeService.reads    the daemon isn't draining, and at least one store answers
the name of a store              that store is healthy. A store that the caller has no access to is
                                 unknown, as if it didn't exist
"""

import asyncio
from contextlib import suppress
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.access.call_limits import CallLimits
from kekd_server.access.identity.principal import Principal
from kekd_server.daemon_status import DaemonStatus
from kekd_server.model.errors import InvalidRequestError, KekdError, UnauthenticatedError
from kekd_server.rpc.authentication import Authenticator
from kekd_server.rpc.errors import Context, abort_known
from kekd_server.storage.health import Health

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["EnvelopeService"].full_name
_READS: Final = f"{_SERVICE}.reads"
_MAX_NAME_CHARACTERS: Final = 8192
"""More than any store's name has. A watch keeps its request in memory until it ends."""

_FIRST_CHECK_TIMEOUT: Final = 0.25
"""Seconds. A disk needs a few milliseconds. A store that hangs delays the start by this time."""

Response: Final[Any] = health_pb2.HealthCheckResponse


class HealthService:
    """https://github.com/grpc/grpc/blob/master/doc/health-checking.md"""

    def __init__(self, health: Health, status: DaemonStatus, limits: CallLimits) -> None:
        self._health = health
        self._status = status
        self._limits = limits
        self._is_draining = False
        self._background_task: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()
        """Set at the next change, and then replaced."""

    def add_to(self, server: grpc.aio.Server, authenticator: Authenticator) -> None:
        servicer = _Servicer(self, authenticator, self._limits)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    async def start(self) -> None:
        """Starts the checks, and waits a moment for their first results. Before these, no store
        serves, and a client that waits for one asks again later.
        """
        self._background_task = asyncio.create_task(self._health.run(self._report))
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_CHECK_TIMEOUT):
                while not self._health.is_checked:
                    await self.changed.wait()

    async def drain(self) -> None:
        """Reports NOT_SERVING for everything except the process."""
        self._is_draining = True
        if self._background_task:
            self._background_task.cancel()
        await self._report()

    def status_of(self, service: str, principal: Principal | None) -> int | None:
        """Returns None for a service that doesn't exist, or not for this principal."""
        if service == "":
            return int(Response.SERVING)
        stores = self._health.stores()
        if service == _SERVICE:
            return self._serving(any(store.healthy for store in stores))
        if service == _READS:
            return self._serving(any(store.readable for store in stores))
        visible = self._status.stores(principal) if principal else ()
        for store in visible:
            if store.name == service:
                return self._serving(store.healthy)
        return None

    def _serving(self, is_good: bool) -> int:  # noqa: FBT001
        is_serving = is_good and not self._is_draining
        return int(Response.SERVING if is_serving else Response.NOT_SERVING)

    async def _report(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class _Servicer(health_pb2_grpc.HealthServicer):
    """Serves one listener."""

    def __init__(
        self, health: HealthService, authenticator: Authenticator, limits: CallLimits
    ) -> None:
        self._health = health
        self._authenticator = authenticator
        self._limits = limits

    async def Check(self, request: Any, context: Context) -> Any:
        status = self._health.status_of(request.service, self._principal(context))
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return Response(status=status)

    async def List(self, _request: Any, _context: Context) -> Any:
        """Omits the stores: a caller has to know their names."""
        messages: Any = health_pb2  # the stubs don't have those of List yet
        statuses = {
            service: Response(status=self._health.status_of(service, None))
            for service in ("", _SERVICE, _READS)
        }
        return messages.HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, context: Context) -> None:
        try:
            if len(request.service) > _MAX_NAME_CHARACTERS:
                raise InvalidRequestError(
                    "the service name is too long: it has more than"
                    f" {_MAX_NAME_CHARACTERS} characters; name a store that the daemon has"
                )
            principal = self._authenticator.authenticate(context)
            lease = self._limits.begin(principal.identity, is_watch=True)
        except KekdError as error:
            await abort_known(error, request, context)
        try:
            await self._send_changes(request.service, context)
        finally:
            lease.release()

    async def _send_changes(self, service: str, context: Context) -> None:
        """Sends the status, and again whenever it changes, until the caller disconnects."""
        sent = None
        while True:
            changed = self._health.changed
            status = self._health.status_of(service, self._principal(context))
            status = Response.SERVICE_UNKNOWN if status is None else status
            if status != sent:
                await context.write(Response(status=status))
                sent = status
            await changed.wait()

    def _principal(self, context: Context) -> Principal | None:
        try:
            return self._authenticator.authenticate(context)
        except UnauthenticatedError:
            return None
