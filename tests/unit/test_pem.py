"""PEM as people write it becomes PEM as gRPC reads it."""

from collections.abc import Callable

import pytest

from kekd_common import pem

BASE64 = b"QUJD" * 20
BLOCK = b"-----BEGIN CERTIFICATE-----\n%b\n%b\n-----END CERTIFICATE-----\n" % (
    BASE64[:64],
    BASE64[64:],
)
KEY = b"-----BEGIN EC PRIVATE KEY-----\nQUJD\n-----END EC PRIVATE KEY-----\n"

SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "as it should be": lambda text: text,
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "indented": lambda text: b"\n".join(b"  " + line for line in text.split(b"\n")),
    "trailing blanks": lambda text: text.replace(b"\n", b" \t\n"),
    "blank lines": lambda text: text.replace(b"\n", b"\n\n"),
    "no last end of line": lambda text: text.rstrip(b"\n"),
    "a comment in UTF-8": lambda text: "# für kekd\n".encode() + text,
    "one line": lambda text: text.replace(b"\n", b""),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_pem_is_normalized_for_grpc(spelling: str) -> None:
    assert pem.normalized(SPELLINGS[spelling](BLOCK), pem.CERTIFICATE) == BLOCK


def test_glued_blocks_are_separated_in_order() -> None:
    text = BLOCK.rstrip() + KEY.rstrip() + BLOCK
    assert pem.normalized(text, pem.CERTIFICATE) == BLOCK + BLOCK
    assert pem.normalized(text, pem.PRIVATE_KEY) == KEY


@pytest.mark.parametrize("text", [b"", b"no PEM", b"-----END CERTIFICATE-----", KEY])
def test_file_without_a_certificate_block_is_empty(text: bytes) -> None:
    assert pem.normalized(text, pem.CERTIFICATE) == b""


@pytest.mark.parametrize("text", [BLOCK[:-10], BLOCK + BLOCK[:40], KEY[:-30] + BLOCK])
def test_truncated_file_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="truncated"):
        pem.normalized(text, pem.CERTIFICATE)


def test_headers_of_an_encrypted_key_are_kept() -> None:
    encrypted = KEY.replace(b"\nQUJD", b"\nProc-Type: 4,ENCRYPTED\n\nQUJD")
    assert pem.normalized(encrypted, pem.PRIVATE_KEY) == encrypted
