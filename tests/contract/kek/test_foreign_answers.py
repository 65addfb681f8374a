"""Responses that aren't from AWS, or are rejected: no error contains them."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kekd.kek import Slot
from kekd.kek.aws import session
from kekd.kek.aws.kms import AwsKms
from kekd.kek.aws.secrets import AwsSecrets
from kekd.kek.errors import (
    InvalidSecretError,
    KekError,
    KeyNotAllowedError,
    ProviderUnavailableError,
    UnwrapError,
)
from kekd.kek.provider import WrappedKek
from tests.unit.kek.chains import held_by

ANSWERS = {
    "a page of a proxy": b"<html>Please log in with SECRET</html>",
    "nothing": b"",
    "another object": b'{"SECRET": 1}',
    "a list": b'["SECRET"]',
    "base64 that is none": b'{"KeyId": "k", "CiphertextBlob": "SECRET!", "Plaintext": "SECRET!"}',
}
USES: dict[str, Callable[[str], Any]] = {
    "wrap": lambda url: kms(url).wrap(bytes(32), None),
    "unwrap": lambda url: kms(url).unwrap(WrappedKek(b"1"), None),
    "describe": lambda url: kms(url).describe(),
    "secret": lambda url: secrets(url).wrap(bytes(32), None),
    "role": lambda url: kms(url, role_arn="arn:aws:iam::222233334444:role/x").describe(),
}


def slot(url: str, **more: Any) -> Slot:
    return Slot("prod", "aws-kms", "alias/prod", "us-east-1", endpoint_url=url, **more)


def kms(url: str, **more: Any) -> AwsKms:
    """A provider that makes one attempt, with enough time."""
    prod = slot(url, **more)
    return AwsKms(prod, timeout=0, client=session.connect("kms", prod, 5))


def secrets(url: str, **more: Any) -> AwsSecrets:
    """The same for Secrets Manager."""
    prod = Slot("prod", "aws", "key", "us-east-1", endpoint_url=url, **more)
    return AwsSecrets(prod, timeout=0, client=session.connect("secretsmanager", prod, 5))


@contextmanager
def answering(content: bytes, length: int) -> Iterator[str]:
    """A server that gives this answer to every request, with a Content-Length that may be wrong."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(params=list(ANSWERS.values()), ids=list(ANSWERS))
def foreign(request: pytest.FixtureRequest) -> Iterator[str]:
    with answering(request.param, len(request.param)) as url:
        yield url


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_foreign_response_raises_without_showing_it(
    foreign: str, aws_credentials: dict[str, str], use: Callable[[str], Any]
) -> None:
    with pytest.raises(ProviderUnavailableError) as caught:
        use(foreign)
    assert "SECRET" not in held_by(caught.value)


PLAINTEXT = b"plaintext-kek-canary-0123456789a"
IN_BASE64 = base64.b64encode(PLAINTEXT).decode()
IN_TWO_PARTS = base64.b64encode(PLAINTEXT * 2).decode()
OTHER_KEY = "arn:aws:kms:us-east-1:666655554444:key/other"
OTHER_SECRET = "arn:aws:secretsmanager:us-east-1:666655554444:secret:other-AbCdEf"
ALLOWED = ("arn:aws:*:us-east-1:111122223333:*",)


def opened_by_kms(url: str) -> None:
    kms(url, allowed_key_arns=ALLOWED).unwrap(WrappedKek(b"1"), None)


def wrapped_by_secret(url: str) -> None:
    secrets(url, allowed_key_arns=ALLOWED).wrap(bytes(32), None)


@pytest.mark.parametrize(
    ("use", "answer", "kind"),
    [
        (opened_by_kms, {"KeyId": OTHER_KEY, "Plaintext": IN_BASE64}, KeyNotAllowedError),
        (
            opened_by_kms,
            {"KeyId": "arn:aws:kms:us-east-1:111122223333:key/a", "Plaintext": IN_TWO_PARTS},
            UnwrapError,
        ),
        (opened_by_kms, {"Plaintext": IN_BASE64}, ProviderUnavailableError),
        (opened_by_kms, {"KeyId": 1, "Plaintext": IN_BASE64}, ProviderUnavailableError),
        (opened_by_kms, {"KeyId": "a", "Plaintext": IN_BASE64[:-2]}, ProviderUnavailableError),
        (wrapped_by_secret, {"ARN": [1], "SecretBinary": IN_BASE64}, ProviderUnavailableError),
        (wrapped_by_secret, {"ARN": OTHER_SECRET, "SecretBinary": IN_BASE64}, KeyNotAllowedError),
        (wrapped_by_secret, {"SecretBinary": IN_BASE64}, ProviderUnavailableError),
        (
            wrapped_by_secret,
            {
                "ARN": "arn:aws:secretsmanager:us-east-1:111122223333:secret:key-AbCdEf",
                "SecretString": PLAINTEXT.decode(),
            },
            InvalidSecretError,
        ),
    ],
)
@pytest.mark.parametrize("is_cut_off", [False, True], ids=["whole", "cut off"])
def test_rejected_response_is_in_no_traceback(
    aws_credentials: dict[str, str],
    use: Callable[[str], None],
    answer: dict[str, Any],
    kind: type[KekError],
    is_cut_off: bool,
) -> None:
    body = json.dumps(answer).encode()
    sent = body[:-5] if is_cut_off else body
    with answering(sent, len(body)) as url, pytest.raises(KekError) as caught:
        use(url)
    assert isinstance(caught.value, ProviderUnavailableError if is_cut_off else kind)
    held = held_by(caught.value)
    for canary in (IN_BASE64[:12], repr(PLAINTEXT)[2:14], PLAINTEXT.hex()[:16]):
        assert canary not in held
