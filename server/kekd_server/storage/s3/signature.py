"""Signs S3 requests with AWS Signature Version 4.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from botocore.credentials import ReadOnlyCredentials

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-_.~"

Query = Sequence[tuple[str, str]]


class UnsignedRequest(NamedTuple):
    method: str
    path: str
    """Encoded."""
    query: Query
    headers: Mapping[str, str]
    """Lower-case names, with the host."""
    body: bytes


class _SigningKey(NamedTuple):
    date: str
    secret: str
    key: bytes


class Signer:
    """Signs for S3 in one region."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._last_key = _SigningKey("", "", b"")

    def sign_headers(
        self, request: UnsignedRequest, credentials: ReadOnlyCredentials, now: float
    ) -> dict[str, str]:
        """Returns the request's headers with those of the signature. `now`: seconds since 1970."""
        timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        headers = {
            **request.headers,
            "x-amz-content-sha256": _sha256(request.body),
            "x-amz-date": timestamp,
        }
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names = sorted(headers)
        scope = f"{timestamp[:8]}/{self._region}/s3/aws4_request"
        digest = _sha256(_canonical_request(request, headers, names).encode())
        string_to_sign = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{digest}"
        key = self._signing_key(timestamp[:8], credentials.secret_key or "")
        signature = hmac.digest(key, string_to_sign.encode(), "sha256").hex()
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope},"
            f" SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return headers

    def _signing_key(self, date: str, secret: str) -> bytes:
        """Keeps the last key, which is valid for a day."""
        last = self._last_key
        if (last.date, last.secret) == (date, secret):
            return last.key
        key = b"AWS4" + secret.encode()
        for part in (date, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._last_key = _SigningKey(date, secret, key)
        return key


def _canonical_request(
    request: UnsignedRequest, headers: Mapping[str, str], names: Sequence[str]
) -> str:
    lines = (
        request.method,
        request.path,
        encode_query(sorted(request.query)),
        *(f"{name}:{headers[name]}" for name in names),
        "",
        ";".join(names),
        headers["x-amz-content-sha256"],
    )
    return "\n".join(lines)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def encode_query(query: Query) -> str:
    return "&".join(f"{encode(name)}={encode(value)}" for name, value in query)


def encode(text: str, *, safe: str = "") -> str:
    return quote(text, safe=_UNRESERVED + safe)
