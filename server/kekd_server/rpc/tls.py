"""gRPC's server side of TLS. Its minimum is TLS 1.2, which it leaves nobody to lower."""

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from kekd_server.listeners.certificates import Certificates, TlsCredentials


def server_credentials(certificates: "Certificates") -> grpc.ServerCredentials:
    """For one server: each handshake uses what is current then.

    With a client CA, the handshake fails unless the caller has a certificate of it. gRPC asks
    before each handshake; None stands for no change, and costs nothing.
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
        changed,  # type: ignore[arg-type]  # the stubs don't know of None
        require_client_authentication=given.client_ca is not None,
    )


def _configuration(credentials: "TlsCredentials") -> grpc.ServerCertificateConfiguration:
    pair = (credentials.key, credentials.cert)
    return grpc.ssl_server_certificate_configuration([pair], credentials.client_ca)
