"""Who makes a call, as its connection shows."""

from typing import TYPE_CHECKING, Final

from kekd_server.access.principal import Caller
from kekd_server.listeners.listener import Listener
from kekd_server.listeners.tcp import TcpListener
from kekd_server.model.errors import UnauthenticatedError
from kekd_server.rpc.errors import Context

if TYPE_CHECKING:
    from kekd_server.access.certificate_identity import CertificateIdentity

_CERTIFICATE: Final = "x509_pem_cert"
"""Where gRPC has the caller's certificate
(https://grpc.github.io/grpc/core/grpc__security__constants_8h.html)."""


class Authenticator:
    """Of one listener: whom their certificates name, or else the role that the listener has."""

    def __init__(self, listener: Listener) -> None:
        self._role = f"listener:{listener.role}"
        self._is_local = listener.is_local
        self._certified = isinstance(listener, TcpListener) and bool(
            listener.tls and listener.tls.client_ca
        )

    def of(self, context: Context) -> Caller:
        """Raises `UnauthenticatedError`."""
        peer = context.peer()
        if not self._certified:
            return Caller(self._role, is_local=self._is_local, peer=peer)
        identity_from_certificate = _certified(context)
        identity_from_certificate.check_time()
        return Caller(
            identity_from_certificate.name,
            is_local=self._is_local,
            peer=peer,
            check=identity_from_certificate.check_time,
        )


def _certified(context: Context) -> "CertificateIdentity":
    # Imported here, as it needs cryptography, which is slow to import and which TLS alone needs.
    from kekd_server.access.certificate_identity import identity_from_certificate  # noqa: PLC0415

    shown = next(iter(context.auth_context().get(_CERTIFICATE) or ()), None)
    if shown is None:
        raise UnauthenticatedError("The connection shows no client certificate: connect anew.")
    return identity_from_certificate(shown)
