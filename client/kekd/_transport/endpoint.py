"""A daemon to call, as a value."""

import os
from dataclasses import dataclass
from typing import Self

from kekd._transport import address as addresses
from kekd._transport.tls import Tls


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a daemon, and the TLS files for it.

    Raises ValueError for TLS with a Unix socket.
    """

    address: str
    tls: Tls | None = None

    def __post_init__(self) -> None:
        if self.tls and self.address.startswith("unix:"):
            raise ValueError(
                f"cannot use TLS with the Unix socket {self.address}; call HOST:PORT, or omit ca,"
                " cert and key (KEKD_CA, KEKD_CERT, KEKD_KEY)"
            )

    @classmethod
    def from_environment(cls, address: str | None, tls: Tls | None) -> Self:
        """Reads missing values from the environment. Without them, uses the default socket and no
        TLS.
        """
        address = address or os.environ.get(addresses.ADDRESS_VARIABLE)
        return cls(addresses.resolve(address), tls or Tls.from_environment())
