"""The signatures of S3 requests are AWS's."""

import hashlib
from calendar import timegm
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from kekd_server.storage.s3.signature import Signer, UnsignedRequest, encode, encode_query

# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, "Examples"
EXAMPLE = ReadOnlyCredentials(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None
)
MAY_24_2013 = timegm((2013, 5, 24, 0, 0, 0))
HOST = {"host": "examplebucket.s3.amazonaws.com"}


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "signature"),
    [
        (
            "GET",
            "/test.txt",
            "",
            {"range": "bytes=0-9"},
            b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            "",
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/",
            "lifecycle=",
            {},
            b"",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/",
            "max-keys=2&prefix=J",
            {},
            b"",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get", "put", "subresource", "list"],
)
def test_signatures_of_the_documentation_are_reproduced(
    method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, signature: str
) -> None:
    request = UnsignedRequest(
        method, path, parse_qsl(query, keep_blank_values=True), HOST | dict(headers), body
    )
    signed = Signer("us-east-1").sign_headers(request, EXAMPLE, MAY_24_2013)
    assert signed["authorization"].endswith(f"Signature={signature}")
    assert signed["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()


KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(key=KEYS, prefix=KEYS, token=st.sampled_from(["", "token"]), body=st.binary(max_size=20))
def test_signature_is_that_of_botocore(key: str, prefix: str, token: str, body: bytes) -> None:
    query = [("prefix", prefix), ("list-type", "2")]
    path = f"/bucket/{encode(key, safe='/')}"
    request = UnsignedRequest("PUT", path, query, {"host": "s3.example:9000"}, body)
    credentials = ReadOnlyCredentials("id", "secret", token or None)
    signed = Signer("eu-west-1").sign_headers(request, credentials, MAY_24_2013)
    theirs = AWSRequest("PUT", f"https://s3.example:9000{path}?{encode_query(query)}", {}, body, {})
    theirs.context["payload_signing_enabled"] = True
    theirs.context["timestamp"] = signed["x-amz-date"]
    auth: Any = S3SigV4Auth(Credentials("id", "secret", token or None), "s3", "eu-west-1")
    auth._modify_request_before_signing(theirs)
    expected = auth.signature(auth.string_to_sign(theirs, auth.canonical_request(theirs)), theirs)
    assert signed["authorization"].endswith(f"Signature={expected}")


def test_key_is_replaced_with_the_credentials_and_the_day() -> None:
    signer = Signer("us-east-1")
    request = UnsignedRequest("GET", "/k", (), HOST, b"")
    other = EXAMPLE._replace(secret_key="other")
    cases = [(EXAMPLE, 0), (other, 0), (EXAMPLE, 86_400), (EXAMPLE, 0)]
    signed = [signer.sign_headers(request, by, MAY_24_2013 + later) for by, later in cases]
    fresh = [
        Signer("us-east-1").sign_headers(request, by, MAY_24_2013 + later) for by, later in cases
    ]
    assert signed == fresh
