"""Reserves TCP ports for the processes of one daemon."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def reserve_port(host: str, port: int) -> Iterator[None]:
    """Reserves the port: only sockets of this user with SO_REUSEPORT can bind it, and no second
    `reserve_port` succeeds. Raises OSError EADDRINUSE if the port is in use.

    SO_REUSEPORT alone would let a second daemon take a part of the connections without either
    daemon noticing. At each bind(2) and listen(2), Linux checks whether *both* sockets have the
    option now. So this socket first listens without the option. The kernel refuses that if another
    socket is bound, and of two concurrent attempts it allows one. Then the socket gets the option.

    shutdown(2) stops the listening and keeps the port: a bound socket that doesn't listen gets no
    connections. SO_REUSEADDR is needed for ports with connections in TIME_WAIT. It is reset, as it
    would let other sockets bind beside one that doesn't listen.
    """
    with ExitStack() as sockets:
        for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            holder = sockets.enter_context(socket.socket(family, kind))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                holder.bind(address)
            except OSError as error:
                # No process can take an address that this machine lacks, such as ::1.
                if error.errno == errno.EADDRNOTAVAIL:
                    continue
                raise
            holder.listen()
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.shutdown(socket.SHUT_RDWR)
        yield
