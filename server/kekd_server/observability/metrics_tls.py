"""TLS of the metrics address."""

import ssl
from typing import TYPE_CHECKING

from kekd_server.listeners.tcp import TlsFiles

if TYPE_CHECKING:
    from kekd_server.listeners.certificates import Certificates, TlsCredentials


class MetricsTls:
    """Makes the TLS context of new connections, again when the files change."""

    certificates: "Certificates"
    _context: ssl.SSLContext

    def __init__(self, files: TlsFiles) -> None:
        """Raises `TlsError`."""
        # Imported here, because cryptography is slow to import.
        from kekd_server.listeners.certificates import Certificates  # noqa: PLC0415

        self._files = files
        self.certificates = Certificates(files, self._replace_context)

    @property
    def context(self) -> ssl.SSLContext:
        return self._context

    @property
    def requires_certificate(self) -> bool:
        """Whether a client needs a certificate to read the metrics. Probes never need one."""
        return self._files.client_ca is not None

    def _replace_context(self, credentials: "TlsCredentials") -> None:
        """Raises `HandshakeError`, and keeps the context."""
        from kekd_server.listeners.certificates import HandshakeError  # noqa: PLC0415

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self._files.cert, self._files.key)
            if credentials.client_ca:
                context.load_verify_locations(cadata=credentials.client_ca.decode())
                context.verify_mode = ssl.CERT_OPTIONAL
        except OSError as error:  # also ssl.SSLError
            raise HandshakeError(str(error)) from error
        self._context = context
