"""Normalizes PEM files to the strict form that gRPC's TLS library reads.

PEM files in the wild have byte order marks, comments, indentation, or two blocks on one line.
OpenSSL and Python accept most of that, BoringSSL doesn't.
"""

import re
from typing import Final

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_BEGIN: Final = b"-----BEGIN "
_COLUMNS: Final = 64

CERTIFICATE: Final = b"CERTIFICATE"
PRIVATE_KEY: Final = b"PRIVATE KEY"


def normalized(text: bytes, kind: bytes) -> bytes:
    """Returns the blocks of a kind, in order, with lines of 64 columns and nothing in between.

    Raises ValueError if a block has no end, as in a truncated file.
    """
    blocks = _BLOCK.findall(text)
    if len(blocks) < text.count(_BEGIN):
        raise ValueError("a block has no end: the file is truncated")
    return b"".join(_rewrapped(label, body) for label, body in blocks if label.endswith(kind))


def _rewrapped(label: bytes, body: bytes) -> bytes:
    if b":" in body:  # the headers of an encrypted key
        return b"-----BEGIN %b-----%b-----END %b-----\n" % (label, body, label)
    base64 = b"".join(body.split())
    lines = [base64[start : start + _COLUMNS] for start in range(0, len(base64), _COLUMNS)]
    return b"\n".join([b"-----BEGIN %b-----" % label, *lines, b"-----END %b-----" % label, b""])
