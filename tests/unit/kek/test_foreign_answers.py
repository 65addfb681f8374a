"""What answers where AWS should, and isn't AWS."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kekd.kek import Slot
from kekd.kek.aws_kms import AwsKms
from kekd.kek.aws_secrets import AwsSecrets
from kekd.kek.errors import ProviderUnavailableError
from kekd.kek.provider import Wrapped

ANSWERS = {
    "a page of a proxy": b"<html>Please log in with SECRET</html>",
    "nothing": b"",
    "another object": b'{"SECRET": 1}',
    "a list": b'["SECRET"]',
    "base64 that is none": b'{"KeyId": "k", "CiphertextBlob": "SECRET!", "Plaintext": "SECRET!"}',
}
USES: dict[str, Callable[[str], Any]] = {
    "wrap": lambda url: kms(url).wrap(bytes(32), None),
    "unwrap": lambda url: kms(url).unwrap(Wrapped(b"1"), None),
    "describe": lambda url: kms(url).describe(),
    "secret": lambda url: AwsSecrets(slot(url), timeout=0.1).wrap(bytes(32), None),
    "role": lambda url: kms(url, role_arn="arn:aws:iam::222233334444:role/x").describe(),
}


def slot(url: str, **more: Any) -> Slot:
    return Slot("prod", "aws-kms", "alias/prod", "us-east-1", endpoint_url=url, **more)


def kms(url: str, **more: Any) -> AwsKms:
    return AwsKms(slot(url, **more), timeout=0.1)


@pytest.fixture(params=list(ANSWERS.values()), ids=list(ANSWERS))
def foreign(request: pytest.FixtureRequest) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(request.param)))
            self.end_headers()
            self.wfile.write(request.param)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_it_is_told_and_not_shown(
    foreign: str, aws_credentials: dict[str, str], use: Callable[[str], Any]
) -> None:
    with pytest.raises(ProviderUnavailableError) as caught:
        use(foreign)
    error: BaseException | None = caught.value
    while error:
        assert "SECRET" not in str(error)
        error = error.__cause__
