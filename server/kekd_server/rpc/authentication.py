"""Authenticates a call by its connection."""

from typing import TYPE_CHECKING, Final

from kekd_server.access.identity.principal import Principal
from kekd_server.listeners.listener import Listener
from kekd_server.listeners.tcp import TcpListener
from kekd_server.model.errors import UnauthenticatedError
from kekd_server.rpc.errors import Context

if TYPE_CHECKING:
    from kekd_server.access.identity.certificate_identity import CertificateIdentity

_CERTIFICATE: Final = "x509_pem_cert"
"""The property that holds the client certificate
(https://grpc.github.io/grpc/core/grpc__security__constants_8h.html)."""


class Authenticator:
    """Authenticates the calls on one listener: by their client certificates if it requires them,
    else by its role.
    """

    def __init__(self, listener: Listener) -> None:
        self._is_local = listener.is_local
        role = Principal(f"listener:{listener.role}", is_local=listener.is_local)
        requires_certificate = isinstance(listener, TcpListener) and bool(
            listener.tls and listener.tls.client_ca
        )
        self.role: Final = None if requires_certificate else role
        """The principal of every call, unless certificates are required."""

    def authenticate(self, context: Context) -> Principal:
        """Raises `UnauthenticatedError`."""
        if self.role:
            return self.role
        identity = _certificate_identity(context)
        identity.require_unexpired()
        return Principal(
            identity.name, is_local=self._is_local, require_unexpired=identity.require_unexpired
        )


def _certificate_identity(context: Context) -> "CertificateIdentity":
    # Imported here, because only TLS needs cryptography, which is slow to import.
    from kekd_server.access.identity.certificate_identity import identity_from_certificate  # noqa: PLC0415

    pem = next(iter(context.auth_context().get(_CERTIFICATE) or ()), None)
    if pem is None:
        raise UnauthenticatedError(
            "the connection has no client certificate; connect again with one"
        )
    return identity_from_certificate(pem)
