"""A TLS handshake in this process, between a gRPC server and a gRPC client.

gRPC uses BoringSSL, which accepts fewer keys than OpenSSL. So only a handshake with gRPC shows
whether clients can connect.
"""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import grpc

from kekd_server.listeners.certificates import HandshakeError

if TYPE_CHECKING:
    from kekd_server.listeners.certificates import TlsCredentials

_TIMEOUT: Final = 30.0
"""A handshake takes some milliseconds; a machine under load may take longer."""
_STOP_TIMEOUT: Final = 1.0
"""Not none at all: the client would log that the server went away."""
_NO_METHOD: Final = "/kekd.v1.Handshake/Try"
_NAME_REFUSED: Final = "Hostname Verification Check failed"
"""What gRPC's client says once a handshake is done, of a certificate that names no host."""


def try_handshake(credentials: "TlsCredentials") -> None:
    """Raises `HandshakeError` if gRPC's client doesn't accept what gRPC's server makes of it."""
    with _serving(credentials) as address, _channel(address, credentials) as channel:
        try:
            channel.unary_unary(_NO_METHOD)(b"", timeout=_TIMEOUT)  # type: ignore[arg-type]
        except grpc.RpcError as error:
            _check(error)


@contextmanager
def _serving(credentials: "TlsCredentials") -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1, thread_name_prefix="handshake"))
    configuration = grpc.ssl_server_certificate_configuration(
        [(credentials.key, credentials.cert)], credentials.client_ca
    )
    server_credentials = grpc.dynamic_ssl_server_credentials(
        configuration,
        lambda: None,  # type: ignore[arg-type, return-value]  # the stubs don't know of None
        require_client_authentication=False,
    )
    # An abstract socket needs neither a file nor a port.
    address = f"unix-abstract:kekd-{secrets.token_hex(16)}"
    try:
        try:
            server.add_secure_port(address, server_credentials)
        except RuntimeError as error:
            raise HandshakeError("gRPC's TLS library cannot use it") from error
        server.start()
        yield address
    finally:
        server.stop(_STOP_TIMEOUT).wait()


def _channel(address: str, credentials: "TlsCredentials") -> grpc.Channel:
    return grpc.secure_channel(
        address,
        # Trusts the certificate itself: only the clients check its issuer.
        grpc.ssl_channel_credentials(credentials.cert),
        [("grpc.ssl_target_name_override", credentials.host or "kekd")],
    )


def _check(error: grpc.RpcError) -> None:
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNIMPLEMENTED or _NAME_REFUSED in details:
        return
    raise HandshakeError(f"{code.name}: {details}") from error
