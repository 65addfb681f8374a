"""Serves DaemonService."""

from datetime import UTC, datetime

from kekd_common.version import __version__
from kekd_proto.v1 import daemon_pb2 as pb
from kekd_server.access.request_context import RequestContext
from kekd_server.daemon_status import DaemonStatus
from kekd_server.listeners.engine import EngineName
from kekd_server.rpc.errors import Context


class DaemonServicer:
    """Serves one listener: each may have its own engine."""

    def __init__(self, status: DaemonStatus, engine: EngineName) -> None:
        self._status = status
        self._engine = "native" if engine == "native" else "grpcio"
        self._version = __version__

    async def GetStatus(
        self, _message: pb.GetStatusRequest, _context: Context, request: RequestContext
    ) -> pb.GetStatusResponse:
        status = self._status
        stores = status.stores(request.principal)
        policy_error, audit_error = status.policy_error(), status.audit_error()
        if not stores:  # an error in the policy may quote the policy
            policy_error, audit_error = _redact(policy_error), _redact(audit_error)
        return pb.GetStatusResponse(
            version=self._version,
            started_at=status.started_at,
            now=datetime.now(UTC),
            engine=self._engine,
            workers=status.workers,
            stores=[
                pb.StoreStatus(
                    name=store.name,
                    is_default=store.is_default,
                    healthy=store.healthy,
                    error_message=store.error_message,
                    warning=store.warning,
                    history=store.history,
                )
                for store in stores
            ],
            certificates=[
                pb.CertificateStatus(
                    file=certificate.file,
                    expires_at=certificate.expires_at,
                    error=certificate.error,
                )
                for certificate in status.certificates()
            ],
            warnings=status.warnings if request.principal.is_local else [],
            policy_error=policy_error,
            audit_error=audit_error,
        )


def _redact(error: str) -> str:
    return error and "the daemon's log says why"
