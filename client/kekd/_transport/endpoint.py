"""The address of a daemon, and its TLS files."""

import os
from typing import Self

from kekd._transport import address as addresses
from kekd._transport.tls import Tls


class Endpoint:
    """The address of a daemon, and the TLS files for it.

    Not a dataclass, because defining one takes a hundredth of the time of a `kekctl get`.
    """

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        """Raises ValueError for TLS with a Unix socket."""
        if tls and address.startswith("unix:"):
            raise ValueError(
                f"cannot use TLS with the Unix socket {address}; call HOST:PORT, or omit ca, cert"
                " and key (KEKD_CA, KEKD_CERT, KEKD_KEY)"
            )
        self.address = address
        self.tls = tls

    @classmethod
    def from_environment(cls, address: str | None, tls: Tls | None) -> Self:
        """Reads missing values from the environment. Without them, uses the default socket and no
        TLS.
        """
        address = address or os.environ.get(addresses.ADDRESS_VARIABLE)
        return cls(addresses.resolve(address), tls or Tls.from_environment())
