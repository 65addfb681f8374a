"""A client uses renewed TLS files without disturbing calls in flight."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

import kekd
from kekd._transport import tls_credentials
from tests.fixtures.tls import DAY, Authority, Pair, StartTlsDaemon, TlsDaemon
from tests.fixtures.workers import connections_to, sockets
from tests.patience import PATIENCE, eventually

BLOB = kekd.KMSBlob(provider="none")


def port(daemon: TlsDaemon) -> int:
    return int(daemon.address.rpartition(":")[2])


def accepted(daemon: TlsDaemon) -> set[str]:
    """The connections of the daemon."""
    return connections_to(port(daemon)) & sockets(daemon.daemon.process.pid)


def changed_ca(daemon: TlsDaemon, folder: Path, *, workers: int = 1) -> Pair:
    """Changes the daemon's client CA, and returns a certificate of the new one."""
    other = Authority(folder)
    before = daemon.logged("now in use: certificate")
    other.cert.replace(daemon.client_ca)
    eventually(lambda: daemon.logged("now in use: certificate") == before + workers)
    return other.issue(folder / "client")


def test_renewed_certificate_is_used_by_the_next_call(
    tls_daemon: TlsDaemon, tmp_path: Path
) -> None:
    with kekd.Client(tls_daemon.address, tls=tls_daemon.tls) as client:
        client.create_index_kms(None, "x", BLOB)
        before = accepted(tls_daemon)
        assert len(before) == 1
        tls_daemon.client.replace(changed_ca(tls_daemon, tmp_path / "other"))
        eventually(
            lambda: client.get_index_kms(None, "x") == BLOB and accepted(tls_daemon) != before
        )
        # The old connection was closed once it was unused.
        eventually(lambda: len(accepted(tls_daemon)) == 1 and not accepted(tls_daemon) & before)


async def test_renewed_certificate_is_used_by_the_next_async_call(
    tls_daemon: TlsDaemon, tmp_path: Path
) -> None:
    async with kekd.AsyncClient(tls_daemon.address, tls=tls_daemon.tls) as client:
        await client.create_index_kms(None, "x", BLOB)
        before = accepted(tls_daemon)
        tls_daemon.client.replace(changed_ca(tls_daemon, tmp_path / "other"))
        async with asyncio.timeout(PATIENCE):
            while accepted(tls_daemon) & before:
                assert await client.get_index_kms(None, "x") == BLOB
        assert len(accepted(tls_daemon)) == 1
        assert not accepted(tls_daemon) & before


def test_watch_continues_over_its_connection_after_a_renewal(
    tls_daemon: TlsDaemon, tmp_path: Path
) -> None:
    with kekd.Client(tls_daemon.address, tls=tls_daemon.tls) as client:
        watch = client.watch_index_kms()
        assert isinstance(next(watch), kekd.Resync)
        before = accepted(tls_daemon)
        tls_daemon.client.replace(changed_ca(tls_daemon, tmp_path / "other"))
        eventually(lambda: list(client.list_index_kms()) == [] and len(accepted(tls_daemon)) == 2)
        client.create_index_kms(None, "x", BLOB)
        assert isinstance(next(watch), kekd.Change)
        watch.close()
        eventually(lambda: not accepted(tls_daemon) & before)


@pytest.fixture
def check_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_credentials, "_CHECK_INTERVAL", 0)


@pytest.mark.usefixtures("check_at_each_call")
def test_incomplete_renewal_keeps_the_connection(tls_daemon: TlsDaemon, tmp_path: Path) -> None:
    new = tls_daemon.authority.issue(tmp_path / "new")
    with kekd.Client(tls_daemon.address, tls=tls_daemon.tls) as client:
        client.create_index_kms(None, "x", BLOB)
        before = accepted(tls_daemon)
        new.cert.replace(tls_daemon.client.cert)
        for _ in range(3):
            assert client.get_index_kms(None, "x") == BLOB
        assert accepted(tls_daemon) == before
        new.key.replace(tls_daemon.client.key)
        eventually(
            lambda: client.get_index_kms(None, "x") == BLOB and accepted(tls_daemon) != before
        )


def test_renewal_under_load_fails_no_call(tls_daemon: TlsDaemon, tmp_path: Path) -> None:
    over = threading.Event()
    failures: list[Exception] = []
    with kekd.Client(tls_daemon.address, tls=tls_daemon.tls) as client:
        client.create_index_kms(None, "x", BLOB)

        def call() -> None:
            while not over.wait(0.005):
                try:
                    client.get_index_kms(None, "x")
                except kekd.EnvelopeError as error:
                    failures.append(error)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(3):
            before = accepted(tls_daemon)
            tls_daemon.client.replace(tls_daemon.authority.issue(tmp_path / str(number)))
            eventually(lambda before=before: not accepted(tls_daemon) & before)  # type: ignore[misc]
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_cache_watches_with_renewed_certificates(
    start_tls_daemon: StartTlsDaemon, tmp_path: Path
) -> None:
    daemon = start_tls_daemon("--disk", str(tmp_path / "keystore"), "--workers=2")
    eventually(lambda: daemon.logged("serving with 2 workers"))  # a later one reads the new files
    with (
        kekd.Client(daemon.address, tls=daemon.tls, cache=True) as client,
        kekd.Client(daemon.daemon.address) as other,
    ):
        client.create_index_kms(None, "x", BLOB)
        assert client.get_index_kms(None, "x") == BLOB
        daemon.client.replace(changed_ca(daemon, tmp_path / "other", workers=2))
        # The connections with the old files end with the workers.
        for pid in workers_of(daemon):
            os.kill(pid, 9)
        eventually(lambda: daemon.logged("serves again") == 2)
        changed = kekd.KMSBlob(provider="none", version=2)
        eventually(lambda: bool(other.push_index_kms(None, "x", changed)))
        eventually(lambda: client.get_index_kms(None, "x") == changed)
        # Gets are served from memory again.
        assert client._caches
        eventually(
            lambda: (
                bool(client.get_index_kms(None, "x"))
                and client._caches is not None
                and client._caches.get(None, "x") == changed
            )
        )


def workers_of(daemon: TlsDaemon) -> list[int]:
    pid = daemon.daemon.process.pid
    return [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.usefixtures("check_at_each_call")
def test_expired_certificate_is_refused_by_the_daemon(
    tls_daemon: TlsDaemon, tmp_path: Path
) -> None:
    expired = tls_daemon.authority.issue(tmp_path / "old", begins=-2 * DAY, ends=-DAY)
    files = kekd.Tls(ca=tls_daemon.authority.cert, cert=expired.cert, key=expired.key)
    with kekd.Client(tls_daemon.address, tls=files) as client:
        with pytest.raises(kekd.UnavailableError):
            list(client.list_index_kms())
        expired.replace(tls_daemon.client)
        assert list(client.list_index_kms()) == []
