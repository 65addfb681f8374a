"""Where Prometheus scrapes: an HTTP server of its own, in threads of its own, so that it answers
whatever the calls do.
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
_IDLE_SECONDS: Final = 10.0
MAX_CONNECTIONS: Final = 16

_log = logging.getLogger(__name__)


def serve(listener: TcpListener, registry: CollectorRegistry) -> None:
    """From here to the end of the process, whoever asks there gets what is in the registry. Raises
    `ListenError`.
    """
    try:
        server = _Server(listener, _Handler.factory(registry))
    except OSError as error:
        raise ListenError(
            f"metrics on {listener}: can't be bound: {error.strerror}: is the port taken? Stop"
            " what has it, or give --metrics another."
        ) from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    _log.info("metrics are at http://%s%s", listener, _PATH)


class MultiprocessMetrics:
    """Those of several workers, in a folder of files, added up."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.registry = CollectorRegistry()
        MultiProcessCollector(self.registry, folder)  # type: ignore[no-untyped-call]
        self.environment = {"PROMETHEUS_MULTIPROC_DIR": folder}
        """What tells a worker of it."""

    def forget(self, worker: int) -> None:
        """Of one that ended, what was so at a moment. What it has counted stays."""
        mark_process_dead(worker, self._folder)  # type: ignore[no-untyped-call]


@contextmanager
def shared(listener: TcpListener | None) -> Iterator[MultiprocessMetrics | None]:
    """Serves those of workers; None if nobody is to ask for them. Raises `ListenError`."""
    if listener is None:
        yield None
        return
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(TemporaryDirectory(prefix="kekd-metrics-"))
        except OSError as error:
            raise ListenError(
                f"metrics on {listener}: no folder for what workers count: {error.strerror}: have"
                " TMPDIR name one that may be written."
            ) from error
        metrics = MultiprocessMetrics(folder)
        serve(listener, metrics.registry)
        yield metrics


class _Server(ThreadingTCPServer):
    """Has a thread for each connection, up to `MAX_CONNECTIONS`. One more has the oldest cut off:
    whoever only connects keeps nobody from scraping, which takes milliseconds.
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
            self._cut_oldest()
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

    def _cut_oldest(self) -> None:
        for oldest in list(self._open)[:1]:
            with suppress(OSError):  # its thread may have just closed it
                oldest.shutdown(socket.SHUT_RDWR)

    def _release(self, request: Any) -> None:
        self._open.pop(request, None)
        self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """One that hangs up early isn't worth the traceback of the base class."""
        _log.debug("a scrape failed", exc_info=True)


class _Handler(MetricsHandler):
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        if urlsplit(self.path).path == _PATH:
            super().do_GET()
        else:
            self.send_error(404, f"There is {_PATH} alone")
