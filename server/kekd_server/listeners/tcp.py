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
    """The PEM files of a listener: its certificate and key, and the CA of its clients."""

    cert: Path
    key: Path
    client_ca: Path | None
    """Without it, clients need no certificate."""


@dataclass(frozen=True, slots=True)
class TcpListener:
    host: str
    port: int
    engine: EngineName = "auto"
    shared: bool = False
    """Whether several workers listen on the port."""
    tls: TlsFiles | None = None
    role: str = "tcp"
    """The identity of callers without a certificate."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Reserves a shared port against other daemons. Only checks whether any other port is free:
        the kernel refuses a used one, but gRPC is satisfied with one of the addresses of a host
        name, and callers could reach another daemon at another address. Raises `ListenError`.
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
        return ListenError(f"{self}: cannot be bound: the port may be in use; use another one")
