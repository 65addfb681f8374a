"""The settings of TLS, which all TCP addresses share or one address has for itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict

from kekd_server.config.flag import Flag
from kekd_server.config.types import FilePath
from kekd_server.listeners.tcp import TlsFiles


class TlsSettings(BaseModel):
    """The files are read when the daemon starts."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    tls_cert: Annotated[
        FilePath | None, Flag("Certificate of the TCP addresses, in PEM", "FILE")
    ] = None
    tls_key: Annotated[FilePath | None, Flag("Private key of the certificate, in PEM", "FILE")] = (
        None
    )
    tls_client_ca: Annotated[
        FilePath | None,
        Flag("CA of the certificates that clients must present, in PEM", "FILE"),
    ] = None

    @property
    def tls(self) -> TlsFiles | None:
        return tls_files(self.tls_cert, self.tls_key, self.tls_client_ca)


def tls_files(cert: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    return TlsFiles(cert, key, client_ca) if cert and key else None


def missing_files(
    cert: Path | None, key: Path | None, client_ca: Path | None
) -> Iterator[tuple[str, str]]:
    """Yields each incomplete setting with its problem."""
    if cert and not key:
        yield "tls_key", "required by tls_cert; set both"
    if key and not cert:
        yield "tls_key", "requires tls_cert; set both"
    if client_ca and not cert:
        yield "tls_client_ca", "requires tls_cert and tls_key; set them"
