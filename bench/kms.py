"""Starts moto's KMS in another process, with an optional delay like that of a network.

python -m bench.kms ADDRESS SECONDS
"""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.process import free_port, python, running

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


@contextmanager
def on_loopback(folder: Path, delay: float) -> Iterator[str]:
    """Yields the URL of a KMS that delays each response by `delay` seconds."""
    address = f"127.0.0.1:{free_port()}"
    with running(python("bench.kms", address, str(delay)), address, folder / "moto.log"):
        yield f"http://{address}"


def serve(address: str, delay: float) -> None:
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415  (only the server needs them)
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415

    # moto's own dispatcher searches its folder for the service at each request, which takes longer
    # than the response itself.
    app = create_backend_app("kms")

    def delayed(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        time.sleep(delay)
        return app(environ, start_response)

    host, _, port = address.rpartition(":")
    make_server(
        host, int(port), delayed, threaded=True, request_handler=MotoRequestHandler
    ).serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], float(sys.argv[2]))
