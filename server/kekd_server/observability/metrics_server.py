"""An HTTP server for Prometheus, and for probes. It has its own threads, so it answers however busy
the daemon is.

It has the handler of prometheus_client. The server of prometheus_client has no limit on
connections, and a TLS client that sends nothing blocks it for all others.
"""

import json
import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from socketserver import ThreadingTCPServer
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.multiprocess import MultiProcessCollector

from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.tcp import TcpListener
from kekd_server.observability.metrics_tls import MetricsTls
from kekd_server.observability.probes import Probes

_PATH: Final = "/metrics"
_IDLE_TIMEOUT: Final = 10.0
MAX_CONNECTIONS: Final = 16
_MAX_SERIES: Final = {
    "counter": 800,
    "histogram": 400,
    "gauge_livemax": 50,
    "gauge_livemin": 50,
    "gauge_livesum": 50,
}
"""The files of a worker, and the most series of one store in each. The series without a store have
as much room. A test makes every series that the code can make.
"""
_SERIES_BYTES: Final = 200
"""More than the average of a series in a file, without the name of its store."""
_MIN_BYTES: Final = 64 * 1024
"""What prometheus_client gives a new file. Paths, which label the gauges of files, may be long."""
_NOTHING_USED: Final = bytes(4)
"""The start of a file without series: how many of its bytes are used."""

_log = logging.getLogger(__name__)


def serve(
    listener: TcpListener, registry: CollectorRegistry, probes: Probes, tls: MetricsTls | None
) -> None:
    """Serves the registry's metrics and the probes until the process ends. Raises `ListenError`."""
    try:
        server = _Server(listener, registry, probes, tls)
    except OSError as error:
        raise ListenError(
            f"cannot serve metrics on {listener}: {error.strerror}; stop the program that uses the"
            " port, or give --metrics another"
        ) from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    _log.info("serving metrics on %s://%s%s", "https" if tls else "http", listener, _PATH)


class MultiprocessMetrics:
    """Adds up the metrics of several workers, which they keep in files of a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.registry = CollectorRegistry()
        MultiProcessCollector(self.registry, folder)  # type: ignore[no-untyped-call]
        self.environment = {"PROMETHEUS_MULTIPROC_DIR": folder}
        """Variables for the workers."""

    def reserve_files(self, workers: int, stores: Sequence[str]) -> None:
        """Makes the files of all workers with all the room that they will need. Workers map the
        files, and a page for which the disk has no room would end the worker with SIGBUS.
        """
        room = sum(_SERIES_BYTES + len(json.dumps(store)) for store in ("", *stores))
        for worker in range(1, workers + 1):
            for prefix, series in _MAX_SERIES.items():
                # Zeros, because a file that is only truncated to its size has no room on the disk.
                Path(self._folder, f"{prefix}_{worker}.db").write_bytes(
                    bytes(max(_MIN_BYTES, series * room))
                )

    def mark_dead(self, worker: int) -> None:
        """Empties the gauges of a worker that ended. Its counters stay. So do all files, because
        the disk may have no room for new ones.
        """
        try:
            for path in Path(self._folder).glob(f"gauge_*_{worker}.db"):
                with path.open("r+b") as file:
                    file.write(_NOTHING_USED)
        except OSError as error:
            _log.error(
                "cannot empty the gauges of worker %d: %s; they are wrong until it serves again",
                *(worker, error.strerror),
            )


@contextmanager
def multiprocess_metrics(
    listener: TcpListener | None,
    probes: Probes,
    tls: MetricsTls | None,
    *,
    workers: int,
    stores: Sequence[str],
) -> Iterator[MultiprocessMetrics | None]:
    """Serves the metrics of all workers, if there is a listener. `stores`: the names of the stores.
    Raises `ListenError`.
    """
    if listener is None:
        yield None
        return
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(TemporaryDirectory(prefix="kekd-metrics-"))
            metrics = MultiprocessMetrics(folder)
            metrics.reserve_files(workers, stores)
        except OSError as error:
            raise ListenError(
                "cannot make temporary files for the metrics of workers:"
                f" {error.strerror}; set TMPDIR to a folder that kekd can write and that has room"
            ) from error
        serve(listener, metrics.registry, probes, tls)
        yield metrics


class _Server(ThreadingTCPServer):
    """Serves each connection in a thread. At `MAX_CONNECTIONS`, a new connection closes the oldest,
    so that idle connections can't prevent a scrape, which takes milliseconds.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        listener: TcpListener,
        registry: CollectorRegistry,
        probes: Probes,
        tls: MetricsTls | None,
    ) -> None:
        self.registry = registry
        self.probes = probes
        self.tls = tls
        address = (listener.host, listener.port)
        self.address_family, *_ = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        self._places = threading.Semaphore(MAX_CONNECTIONS)
        self._open: dict[Any, None] = {}
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[Any, Any]:
        """Returns a connection whose first read does the TLS handshake, in its own thread."""
        request, client_address = super().get_request()
        if self.tls:
            request = self.tls.context.wrap_socket(
                request, server_side=True, do_handshake_on_connect=False
            )
        return request, client_address

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self._close_oldest()
            self._places.acquire()
        self._open[request] = None
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._release(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._release(request)

    def _close_oldest(self) -> None:
        for oldest in list(self._open)[:1]:
            with suppress(OSError):  # its thread may have closed it already
                # Not the method of a TLS connection, which makes it plaintext first.
                socket.socket.shutdown(oldest, socket.SHUT_RDWR)

    def _release(self, request: Any) -> None:
        self._open.pop(request, None)
        self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Overrides the base class, which prints a traceback when a client disconnects early."""
        _log.debug("a scrape failed", exc_info=True)


class _Handler(MetricsHandler):
    timeout = _IDLE_TIMEOUT
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == _PATH:
            self._send_metrics()
            return
        is_verbose = "verbose" in parse_qs(url.query, keep_blank_values=True)
        answer = self.server.probes.answer(url.path, self.server.registry, is_verbose=is_verbose)
        if answer:
            self._send_text(answer.status, answer.text)
        else:
            self._send_text(404, f"not found: use {_PATH}, /livez, /readyz or /readyz/STORE\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def end_headers(self) -> None:
        super().end_headers()
        if self.command == "HEAD":
            self.wfile = BytesIO()  # discards the content; the connection serves no other request

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Overrides the base class, which sends an HTML page, and 501 for POST."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._send_text(405, "method not allowed: use GET or HEAD\n", Allow="GET, HEAD")
        else:
            self._send_text(code, f"{message or explain or HTTPStatus(code).phrase}\n")

    def _send_metrics(self) -> None:
        tls = self.server.tls
        if tls and tls.requires_certificate and not self.connection.getpeercert():
            self._send_text(403, "the metrics require a client certificate; present one\n")
            return
        self.registry = self.server.registry
        super().do_GET()

    def _send_text(self, status: int, text: str, **headers: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        for header in headers.items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(content)
