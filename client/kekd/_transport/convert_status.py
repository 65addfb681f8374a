"""Converts the response of a status call."""

from datetime import UTC

from kekd._status import CertificateStatus, DaemonStatus, StoreStatus
from kekd_proto.v1 import daemon_pb2


def parse_status(response: daemon_pb2.GetStatusResponse) -> DaemonStatus:
    return DaemonStatus(
        version=response.version,
        started_at=response.started_at.ToDatetime(UTC),
        now=response.now.ToDatetime(UTC),
        engine=response.engine,
        workers=response.workers,
        stores=tuple(
            StoreStatus(
                name=store.name,
                is_default=store.is_default,
                healthy=store.healthy,
                error_message=store.error_message,
                warning=store.warning,
                history=store.history,
            )
            for store in response.stores
        ),
        certificates=tuple(
            CertificateStatus(
                certificate.file, certificate.expires_at.ToDatetime(UTC), certificate.error
            )
            for certificate in response.certificates
        ),
        warnings=tuple(response.warnings),
        policy_error=response.policy_error,
        audit_error=response.audit_error,
    )
