"""Opens HTTP/1.1 connections to one S3 endpoint, directly or through a proxy."""

import base64
import socket
import ssl
import struct
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final

from kekd_server.storage.s3.errors import ConnectError, describe
from kekd_server.storage.s3.http.connection import Connection
from kekd_server.storage.s3.http.endpoint import Endpoint, Proxy

_CONNECT_TIMEOUT: Final = 2.0
_READ_TIMEOUT: Final = 5.0
"""Seconds without a byte."""


class Connector:
    """A proxy tunnels TLS, but forwards plain HTTP, and sees its requests."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._forwarder = endpoint.proxy if endpoint.tls is None else None
        self.headers = _proxy_authorization(self._forwarder) if self._forwarder else {}
        """The headers that the proxy needs in each request."""

    def connect(self) -> Connection:
        """Raises `ConnectError`."""
        connection = self._new_connection()
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise ConnectError(describe(error), is_tls=True) from error
        except (OSError, HTTPException) as error:
            raise ConnectError(describe(error)) from error
        _set_timeout(connection.sock)
        return Connection(connection.sock)

    def request_target(self, path: str) -> str:
        """Returns the whole URL if a proxy forwards plain HTTP (RFC 9112, section 3.2.2)."""
        return self._endpoint.url + path if self._forwarder else path

    def _new_connection(self) -> HTTPConnection:
        host, port, tls = self._endpoint.host, self._endpoint.port, self._endpoint.tls
        if self._forwarder:
            return HTTPConnection(
                self._forwarder.host, self._forwarder.port, timeout=_CONNECT_TIMEOUT
            )
        if tls is None:
            return HTTPConnection(host, port, timeout=_CONNECT_TIMEOUT)
        if self._endpoint.proxy:
            return _TlsTunnel(self._endpoint, self._endpoint.proxy, tls)
        return HTTPSConnection(host, port, timeout=_CONNECT_TIMEOUT, context=tls)


def _set_timeout(connected: socket.socket) -> None:
    """Leaves the timeout to the kernel, if TLS allows. Python's own takes one more system call for
    each, in which other threads take the interpreter.
    """
    if isinstance(connected, ssl.SSLSocket):
        connected.settimeout(_READ_TIMEOUT)
        return
    connected.settimeout(None)
    seconds, part = divmod(_READ_TIMEOUT, 1)
    timeout = struct.pack("ll", int(seconds), int(part * 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connected.setsockopt(socket.SOL_SOCKET, option, timeout)


class _TlsTunnel(HTTPConnection):
    """TLS through a proxy. An `HTTPSConnection` of Python 3.11 uses one form of an IPv6 address for
    the proxy, which needs brackets, and for the certificate, which has none.
    """

    def __init__(self, endpoint: Endpoint, proxy: Proxy, tls: ssl.SSLContext) -> None:
        super().__init__(proxy.host, proxy.port, timeout=_CONNECT_TIMEOUT)
        self.set_tunnel(endpoint.url_host, endpoint.port, _proxy_authorization(proxy))
        self._server_host = endpoint.host
        self._tls = tls

    def connect(self) -> None:
        super().connect()
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_host)


def _proxy_authorization(proxy: Proxy) -> dict[str, str]:
    if not proxy.user:
        return {}
    token = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {token}"}
