"""An HTTP server that Prometheus scrapes. It has its own threads, so it answers however busy the
daemon is.
"""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from socketserver import ThreadingTCPServer
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.tcp import TcpListener

_PATH: Final = "/metrics"
_IDLE_TIMEOUT: Final = 10.0
MAX_CONNECTIONS: Final = 16

_log = logging.getLogger(__name__)


def serve(listener: TcpListener, registry: CollectorRegistry) -> None:
    """Serves the registry's metrics until the process ends. Raises `ListenError`."""
    try:
        server = _Server(listener, _Handler.factory(registry))
    except OSError as error:
        raise ListenError(
            f"cannot serve metrics on {listener}: {error.strerror}; stop the program that uses the"
            " port, or give --metrics another"
        ) from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    _log.info("serving metrics on http://%s%s", listener, _PATH)


class MultiprocessMetrics:
    """Adds up the metrics of several workers, which they keep in files of a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.registry = CollectorRegistry()
        MultiProcessCollector(self.registry, folder)  # type: ignore[no-untyped-call]
        self.environment = {"PROMETHEUS_MULTIPROC_DIR": folder}
        """Variables for the workers."""

    def mark_dead(self, worker: int) -> None:
        """Removes the gauges of a worker that ended. Its counters stay."""
        mark_process_dead(worker, self._folder)  # type: ignore[no-untyped-call]


@contextmanager
def multiprocess_metrics(listener: TcpListener | None) -> Iterator[MultiprocessMetrics | None]:
    """Serves the metrics of all workers, if there is a listener. Raises `ListenError`."""
    if listener is None:
        yield None
        return
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(TemporaryDirectory(prefix="kekd-metrics-"))
        except OSError as error:
            raise ListenError(
                "cannot make a temporary folder for the metrics of workers:"
                f" {error.strerror}; set TMPDIR to a folder that kekd can write"
            ) from error
        metrics = MultiprocessMetrics(folder)
        serve(listener, metrics.registry)
        yield metrics


class _Server(ThreadingTCPServer):
    """Serves each connection in a thread. At `MAX_CONNECTIONS`, a new connection closes the oldest,
    so that idle connections can't prevent a scrape, which takes milliseconds.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, listener: TcpListener, handler: type[MetricsHandler]) -> None:
        address = (listener.host, listener.port)
        self.address_family, *_ = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        self._places = threading.Semaphore(MAX_CONNECTIONS)
        self._open: dict[Any, None] = {}
        super().__init__(address, handler)

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
                oldest.shutdown(socket.SHUT_RDWR)

    def _release(self, request: Any) -> None:
        self._open.pop(request, None)
        self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Overrides the base class, which prints a traceback when a client disconnects early."""
        _log.debug("a scrape failed", exc_info=True)


class _Handler(MetricsHandler):
    timeout = _IDLE_TIMEOUT

    def do_GET(self) -> None:
        if urlsplit(self.path).path == _PATH:
            super().do_GET()
        else:
            self.send_error(404, f"not found: the metrics are at {_PATH}")
