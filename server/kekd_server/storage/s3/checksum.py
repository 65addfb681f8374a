"""The checksums that S3 stores with an object.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Final

_PREFIX: Final = "x-amz-checksum-"


def _crc32(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4)


_ALGORITHMS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "crc32": _crc32,
    "sha1": lambda content: hashlib.sha1(content, usedforsecurity=False).digest(),
    "sha256": lambda content: hashlib.sha256(content).digest(),
}
"""Those that Python can compute. CRC-32C and CRC-64 are left to TCP and TLS."""


def headers_of(content: bytes) -> dict[str, str]:
    """Returns the headers with which S3 verifies and stores a checksum."""
    return {f"{_PREFIX}crc32": _encode(_crc32(content))}


def matches(headers: Mapping[str, str], content: bytes) -> bool:
    """Whether the content has the checksums in the headers of a response."""
    for name, compute in _ALGORITHMS.items():
        announced = headers.get(_PREFIX + name)
        # That of a multipart upload ends with the number of parts, and covers their checksums.
        if announced and "-" not in announced and announced != _encode(compute(content)):
            return False
    return True


def _encode(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
