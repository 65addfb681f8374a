"""TLS credentials for a gRPC server. gRPC requires TLS 1.2 or later."""

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from kekd_server.listeners.certificates import Certificates, TlsCredentials


def server_credentials(certificates: "Certificates") -> grpc.ServerCredentials:
    """Returns credentials for one server. Each handshake uses the current certificates.

    With a client CA, the handshake fails unless the caller has a certificate of that CA. gRPC asks
    for changes before each handshake; None means no change, and costs nothing.
    """
    given = certificates.current

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        current = certificates.current
        if current is given:
            return None
        given = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        changed,  # type: ignore[arg-type]  # the stubs omit None
        require_client_authentication=given.client_ca is not None,
    )


def _configuration(credentials: "TlsCredentials") -> grpc.ServerCertificateConfiguration:
    pair = (credentials.key, credentials.cert)
    return grpc.ssl_server_certificate_configuration([pair], credentials.client_ca)
