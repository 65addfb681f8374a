"""TCP listeners, with or without TLS."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kekd_common.address import is_loopback
from kekd_server.listeners.engine import AddPort, EngineName
from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.port_reservation import reserve_port


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a listener's certificate is, and the CA of those who may call it, all in PEM."""

    cert: Path
    key: Path
    client_ca: Path | None
    """Without one, callers aren't asked for a certificate."""


@dataclass(frozen=True, slots=True)
class TcpListener:
    host: str
    port: int
    engine: EngineName = "auto"
    shared: bool = False
    """Whether several workers listen there."""
    tls: TlsFiles | None = None
    role: str = "tcp"
    """For callers without a certificate: what they are known as."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """While it lasts, no other daemon gets a port that is shared. Any other is only looked at:
        the kernel refuses one that is taken, but gRPC is content with one of the addresses that a
        name stands for, and callers would reach another daemon by the other. Raises `ListenError`.
        """
        with ExitStack() as claim:
            try:
                claim.enter_context(reserve_port(self.host, self.port))
            except OSError as error:
                raise self._address_in_use() from error
            if not self.shared:
                claim.close()
            yield

    def bind(self, add_port: AddPort) -> None:
        """Raises `ListenError`."""
        try:
            add_port(str(self))
        except RuntimeError as error:
            raise self._address_in_use() from error

    def _address_in_use(self) -> ListenError:
        return ListenError(f"{self}: can't be bound: is the port taken?")
