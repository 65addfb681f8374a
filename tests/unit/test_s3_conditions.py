"""The check of an S3 server's conditions, against a server that ignores some of them."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import S3Client, StoredObject
from kekd_server.storage.s3.conditions import S3ConditionCheck
from kekd_server.storage.s3.errors import S3Error

LOCATION = S3Location("bucket", "some/prefix")
ALL = {"PUT if-none-match", "PUT if-match", "DELETE if-match"}
REFUSED = S3Error(412, "PreconditionFailed", "", "")


class Server:
    """Has one object, and honours some conditions."""

    def __init__(self, honoured: set[str], error: S3Error = REFUSED) -> None:
        self._honoured = honoured
        self._error = error
        self.objects: dict[str, str] = {}
        self.keys: set[str] = set()

    def put_object(self, key: str, content: bytes, headers: Mapping[str, str]) -> str:
        self._check("PUT", key, headers)
        self.objects[key] = content.decode()
        self.keys.add(key)
        return self.objects[key]

    def get_object(self, key: str, _max_bytes: int) -> StoredObject:
        return StoredObject(b"", self.objects[key], "", "", "")

    def delete_object(self, key: str, headers: Mapping[str, str]) -> None:
        self._check("DELETE", key, headers)
        self.objects.pop(key, None)

    def _check(self, method: str, key: str, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            etag = f'"{self.objects.get(key)}"'
            holds = key not in self.objects if name == "if-none-match" else value == etag
            if f"{method} {name}" in self._honoured and not holds:
                raise self._error


class ServerWithout(Server):
    """Doesn't implement some conditions, and honours the others."""

    def __init__(self, *unsupported: str) -> None:
        super().__init__(ALL)
        self._unsupported = unsupported

    def _check(self, method: str, key: str, headers: Mapping[str, str]) -> None:
        if any(f"{method} {name}" in self._unsupported for name in headers):
            raise S3Error(501, "NotImplemented", "", "")
        super()._check(method, key, headers)


class ServerThatRefusesEtags(Server):
    """Like Ceph 16, which compares the etag with its quotes."""

    def _check(self, method: str, key: str, headers: Mapping[str, str]) -> None:
        if "if-match" in headers:
            raise REFUSED
        super()._check(method, key, headers)


def check(server: Server) -> list[str]:
    return list(S3ConditionCheck(cast("S3Client", cast("Any", server)), LOCATION).run())


@pytest.mark.parametrize(
    ("ignored", "found"),
    [
        (set(), []),
        ({"PUT if-none-match"}, ["If-None-Match in PutObject"]),
        ({"PUT if-match"}, ["If-Match in PutObject"]),
        ({"DELETE if-match"}, ["If-Match in DeleteObject"]),
        (
            ALL,
            ["If-None-Match in PutObject", "If-Match in PutObject", "If-Match in DeleteObject"],
        ),
    ],
)
def test_ignored_condition_is_found(ignored: set[str], found: list[str]) -> None:
    server = Server(ALL - ignored)
    assert check(server) == found
    assert server.objects == {}


def test_server_that_refuses_the_current_etag_does_not_honour_it() -> None:
    named = ["If-Match in PutObject", "If-Match in DeleteObject"]
    assert check(ServerThatRefusesEtags(ALL)) == named


@pytest.mark.parametrize(("status", "code"), [(404, "NoSuchKey"), (409, "Conflict")])
def test_other_refusals_honour_the_condition(status: int, code: str) -> None:
    assert check(Server(ALL, S3Error(status, code, "", ""))) == []


@pytest.mark.parametrize(
    ("unsupported", "found"),
    [
        ("PUT if-none-match", "If-None-Match in PutObject"),
        ("PUT if-match", "If-Match in PutObject"),
        ("DELETE if-match", "If-Match in DeleteObject"),
    ],
)
def test_condition_that_the_server_does_not_implement_is_found(
    unsupported: str, found: str
) -> None:
    server = ServerWithout(unsupported)
    assert check(server) == [found]
    assert server.objects == {}


def test_other_error_ends_the_check_and_leaves_no_object() -> None:
    server = Server(ALL, S3Error(503, "SlowDown", "", ""))
    with pytest.raises(S3Error, match="SlowDown"):
        check(server)
    assert server.objects == {}


def test_object_of_the_check_is_below_the_prefix() -> None:
    server = Server(ALL)
    check(server)
    (key,) = server.keys
    assert key.startswith("some/prefix/_kekd/conditions/")
