"""The PEM files of a client for TLS."""

import os
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

CA_VARIABLE: Final = "KEKD_CA"
CERT_VARIABLE: Final = "KEKD_CERT"
KEY_VARIABLE: Final = "KEKD_KEY"
SERVER_NAME_VARIABLE: Final = "KEKD_SERVER_NAME"

FilePath: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The PEM files for calling a daemon over TLS.

    `ca` holds the certificates of the CAs that may issue the daemon's certificate. `cert` and `key`
    identify the client, if the daemon requires a client certificate. `server_name` is the name that
    the daemon's certificate must have, by default the host that is called. The next call uses files
    that were renewed.
    """

    ca: FilePath
    cert: FilePath | None = None
    key: FilePath | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if not self.ca:
            raise ValueError(
                "incomplete TLS options: ca is missing; pass the certificates of the CAs that may"
                " issue the daemon's certificate"
            )
        if bool(self.cert) != bool(self.key):
            raise ValueError("incomplete TLS options: cert and key need each other; pass both")

    @classmethod
    def from_options(
        cls,
        ca: FilePath | None,
        cert: FilePath | None,
        key: FilePath | None,
        server_name: str | None,
    ) -> Self | None:
        """Returns None if no option is set. Raises ValueError if some are missing."""
        if not (ca or cert or key or server_name):
            return None
        return cls(ca=ca or "", cert=cert or None, key=key or None, server_name=server_name or None)

    @classmethod
    def from_environment(cls) -> Self | None:
        """Reads KEKD_CA, KEKD_CERT, KEKD_KEY and KEKD_SERVER_NAME."""
        names = CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE, SERVER_NAME_VARIABLE
        ca, cert, key, server_name = (os.environ.get(name) for name in names)
        try:
            return cls.from_options(ca, cert, key, server_name)
        except ValueError as error:
            raise ValueError(f"{', '.join(names[:3])}: {error}") from None
