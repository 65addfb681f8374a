"""The identity that a certificate gives its caller."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

import kekd
from tests.fixtures.calls import BLOB
from tests.fixtures.tls import Pair, StartTlsDaemon, TlsDaemon
from tests.patience import eventually

T = TypeVar("T")

SPIFFE = "spiffe://prod/ns/x/sa/db"


def rule(identity: str) -> dict[str, Any]:
    return {"name": identity, "identities": identity, "methods": ["create", "read"]}


@contextmanager
def client_of(daemon: TlsDaemon, pair: Pair) -> Iterator[kekd.Client]:
    tls = kekd.Tls(ca=daemon.authority.cert, cert=pair.cert, key=pair.key)
    with kekd.Client(daemon.address, tls=tls, timeout=10) as client:
        yield client


@pytest.mark.parametrize(
    ("names", "identity"),
    [
        (("x.example",), "dns:x.example"),
        (("me@x.example",), "email:me@x.example"),
        ((SPIFFE, "x.example"), SPIFFE),
    ],
)
def test_certificate_names_its_caller(
    start_tls_daemon: StartTlsDaemon, tmp_path: Path, names: tuple[str, ...], identity: str
) -> None:
    daemon = start_tls_daemon("--memory", config={"policy": [rule(identity)]})
    with client_of(daemon, daemon.authority.issue(tmp_path / "known", *names)) as known:
        known.create_index_kms(None, "i", BLOB)
        assert known.get_index_kms(None, "i") == BLOB
    with (
        client_of(daemon, daemon.authority.issue(tmp_path / "other", "other.example")) as other,
        pytest.raises(kekd.PermissionDeniedError, match=r"dns:other\.example cannot") as caught,
    ):
        other.get_index_kms(None, "i")
    assert caught.value.reason == "ACCESS_DENIED"


def test_role_is_for_callers_without_a_certificate(
    start_tls_daemon: StartTlsDaemon, tmp_path: Path
) -> None:
    daemon = start_tls_daemon("--memory", config={"policy": [rule("listener:*")]})
    with (
        client_of(daemon, daemon.client) as client,
        pytest.raises(kekd.PermissionDeniedError, match=r"dns:client\.example"),
    ):
        client.get_index_kms(None, "i")
    with kekd.Client(daemon.daemon.address) as client:
        client.create_index_kms(None, "i", BLOB)


def test_certificate_with_an_invalid_spiffe_id_is_refused_after_the_handshake(
    start_tls_daemon: StartTlsDaemon, tmp_path: Path
) -> None:
    daemon = start_tls_daemon()
    pair = daemon.authority.issue(tmp_path / "climbing", "spiffe://prod/ns/../sa/db")
    with (
        client_of(daemon, pair) as client,
        pytest.raises(kekd.UnauthenticatedError, match=r"the segment '\.\.'") as refused,
    ):
        client.get_index_kms(None, "i")
    assert refused.value.reason == "UNAUTHENTICATED"


LIFETIMES = (6, 30, 150)
"""Seconds. A machine that is too slow for one certificate gets another that lasts longer."""


@contextmanager
def client_before_expiry(
    daemon: TlsDaemon, folder: Path, use: Callable[[kekd.Client], T]
) -> Iterator[tuple[kekd.Client, T]]:
    """Yields a client whose certificate expires soon, and the result of its first use."""
    for seconds in LIFETIMES:
        ends = timedelta(seconds=seconds)
        pair = daemon.authority.issue(folder / str(seconds), "x.example", ends=ends)
        with client_of(daemon, pair) as client:
            try:
                used = use(client)
            except kekd.EnvelopeError:
                continue
            yield client, used
            return
    pytest.fail("every certificate expired before its first use")


def test_certificate_expiry_ends_calls_and_watches(
    start_tls_daemon: StartTlsDaemon, tmp_path: Path
) -> None:
    daemon = start_tls_daemon()
    with client_before_expiry(
        daemon, tmp_path, lambda client: client.push_index_kms(None, "i", BLOB)
    ) as (client, _):
        with pytest.raises(
            kekd.UnauthenticatedError, match=r"x\.example expired .*; renew"
        ) as caught:
            eventually(lambda: client.get_index_kms(None, "i") != BLOB)
        assert caught.value.reason == "UNAUTHENTICATED"


def test_watch_ends_when_the_certificate_expires(
    start_tls_daemon: StartTlsDaemon, tmp_path: Path
) -> None:
    daemon = start_tls_daemon()

    def begin(client: kekd.Client) -> Iterator[kekd.Change | kekd.Resync]:
        events = client.watch_index_kms()
        assert isinstance(next(events), kekd.Resync)
        return events

    with (
        client_before_expiry(daemon, tmp_path, begin) as (_, events),
        pytest.raises(kekd.UnauthenticatedError, match="expired"),
    ):
        next(events)


def test_remote_calls_without_a_policy_are_denied(
    start_tls_daemon: StartTlsDaemon,
) -> None:
    daemon = start_tls_daemon("--memory", host="0.0.0.0")
    assert daemon.logged("every call is denied, because there is no policy")
    with (
        client_of(daemon, daemon.client) as client,
        pytest.raises(kekd.PermissionDeniedError, match="no policy rule") as caught,
    ):
        client.get_index_kms(None, "i")
    assert caught.value.reason == "ACCESS_DENIED"
    with kekd.Client(daemon.daemon.address) as local:
        local.create_index_kms(None, "i", BLOB)
