"""The gRPC face of the daemon's status."""

from datetime import UTC, datetime

from kekd_common.version import __version__
from kekd_proto.v1 import daemon_pb2 as pb
from kekd_server.access.principal import Caller
from kekd_server.daemon_status import DaemonStatus
from kekd_server.listeners.engine import EngineName
from kekd_server.rpc.errors import Context


class DaemonServicer:
    """Of one listener, as each may have an engine of its own."""

    def __init__(self, status: DaemonStatus, engine: EngineName) -> None:
        self._status = status
        self._engine = "native" if engine == "native" else "grpcio"
        self._version = __version__

    async def GetStatus(
        self, _request: pb.GetStatusRequest, _context: Context, caller: Caller
    ) -> pb.GetStatusResponse:
        status = self._status
        stores = status.stores(caller)
        policy_error, audit_error = status.policy_error(), status.audit_error()
        if not stores:  # what is wrong with a policy may say what is in it
            policy_error, audit_error = _withheld(policy_error), _withheld(audit_error)
        return pb.GetStatusResponse(
            version=self._version,
            started_at=status.started_at,
            now=datetime.now(UTC),
            engine=self._engine,
            workers=status.workers,
            stores=[
                pb.StoreStatus(
                    name=it.name,
                    is_default=it.is_default,
                    healthy=it.healthy,
                    error_message=it.error_message,
                )
                for it in stores
            ],
            certificates=[
                pb.CertificateStatus(file=it.file, expires_at=it.expires_at, error=it.error)
                for it in status.certificates()
            ],
            warnings=status.warnings if caller.is_local else [],
            policy_error=policy_error,
            audit_error=audit_error,
        )


def _withheld(error: str) -> str:
    return error and "the daemon's log says why"
