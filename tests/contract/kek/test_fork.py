"""Registries in forked children."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kekd import KMSBlob
from kekd.kek import Registry, Slot

KEY = "arn:aws:kms:us-east-1:111122223333:key/k"
CHILDREN = 4


class KeepAlive(BaseHTTPRequestHandler):
    """A KMS that decrypts everything to its own ciphertext, and keeps its connections open.

    AWS keeps them too, but moto doesn't.
    """

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"KeyId": KEY, "Plaintext": request["CiphertextBlob"]}).encode()
        time.sleep(0.05)  # so that the children wait together
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def kms() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), KeepAlive) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def kek_of(number: int) -> bytes:
    return bytes([number]) * 32


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_forked_children_do_not_share_responses(kms: str, aws_credentials: dict[str, str]) -> None:
    slot = Slot("prod", "aws-kms", KEY, "us-east-1", endpoint_url=kms)
    registry = Registry({"prod": slot})

    def opens(number: int) -> bool:
        envelope = KMSBlob("prod", "aws-kms", KEY, "us-east-1", kek_of(number), key_arn=KEY)
        return registry.unwrap(str(number), envelope) == kek_of(number)

    assert opens(0)
    children = []
    for number in range(CHILDREN):
        child = os.fork()
        if not child:
            signal.alarm(120)
            try:
                right = all(opens(number) for _ in range(3))
            except BaseException:  # noqa: BLE001  (nothing may leave the child)
                sys.excepthook(*sys.exc_info())
                right = False
            os._exit(0 if right else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * CHILDREN


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_does_not_wait_for_the_rate_limit_of_its_parent() -> None:
    registry = Registry({}, max_rate=100)
    with registry._providers._rate_limiter._lock:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout has its own
            signal.alarm(120)
            registry._providers._rate_limiter.wait()
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
