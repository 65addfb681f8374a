"""TCP ports that several processes of one daemon share, and nobody else."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def reserve_port(host: str, port: int) -> Iterator[None]:
    """While it lasts, sockets of this user with SO_REUSEPORT can bind the port, and no others; nor
    can a second `reserve_port`. Raises OSError EADDRINUSE if anybody has the port.

    SO_REUSEPORT by itself would let a second daemon in, to get a part of the connections without
    either knowing. Linux asks at each bind(2) and listen(2) whether *both* sockets have the option,
    and reads that of the older one as it is now. So this socket listens without it for a moment,
    which the kernel refuses if anything is bound here, and grants to one of two that try at once;
    it gets the option afterwards. shutdown(2) ends the listening and keeps the port: what is bound
    and doesn't listen gets no connections. SO_REUSEADDR is for ports with connections in TIME_WAIT;
    left on, it would let others bind beside a socket that doesn't listen.
    """
    with ExitStack() as sockets:
        for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            holder = sockets.enter_context(socket.socket(family, kind))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                holder.bind(address)
            except OSError as error:
                # One that this machine doesn't have, ::1 for localhost say, nobody can take.
                if error.errno == errno.EADDRNOTAVAIL:
                    continue
                raise
            holder.listen()
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.shutdown(socket.SHUT_RDWR)
        yield
