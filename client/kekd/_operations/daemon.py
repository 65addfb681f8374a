"""The operations on the daemon itself: its health and its status."""

from typing import Final

from grpc_health.v1 import health_pb2

from kekd._status import DaemonStatus
from kekd._transport.convert_status import parse_status
from kekd._transport.operation import SERVICE, Operation
from kekd.errors import UnavailableError
from kekd_proto.v1 import daemon_pb2

STATUS_SERVICE: Final = "kekd.v1.DaemonService"


def check_health(address: str, service: str) -> Operation[None]:
    """Calls the standard health service (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).

    Decoding the response raises `UnavailableError` unless the daemon at `address` serves `service`.
    """

    def require_serving(response: health_pb2.HealthCheckResponse) -> None:
        if response.status != response.SERVING:
            name = "" if service == SERVICE else f" {service}"
            raise UnavailableError(f"kekd at {address} doesn't serve{name} yet; retry later")

    return Operation(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest(service=service),
        health_pb2.HealthCheckResponse,
        require_serving,
    )


def status() -> Operation[DaemonStatus]:
    return Operation(
        f"/{STATUS_SERVICE}/GetStatus",
        daemon_pb2.GetStatusRequest(),
        daemon_pb2.GetStatusResponse,
        parse_status,
    )
