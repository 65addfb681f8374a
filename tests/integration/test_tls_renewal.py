"""Certificates are replaced while in use: both files or none, and without failing a call."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

import kekd
from tests.fixtures.tls import DAY, Authority, Pair, StartTlsDaemon, TlsDaemon
from tests.patience import eventually

THREADS = 4
REFUSED = "still in use: certificate"


@contextmanager
def load(daemon: TlsDaemon) -> Iterator[list[int]]:
    """Makes calls from a few clients, without a failure. Yields the number of each one's calls."""
    made = [0] * THREADS
    over = threading.Event()

    def call(number: int) -> None:
        with kekd.Client(daemon.address, tls=daemon.tls) as client:
            while not over.wait(0.005):
                blob = kekd.KMSBlob(provider="none", version=made[number] + 1)
                client.push_index_kms(None, f"index-{number}", blob)
                assert client.get_index_kms(None, f"index-{number}") == blob
                made[number] += 1

    with ThreadPoolExecutor(THREADS) as threads:
        calls = [threads.submit(call, number) for number in range(THREADS)]
        try:
            eventually(lambda: all(made))
            yield made
            before = list(made)
            eventually(lambda: all(now > then for now, then in zip(made, before, strict=True)))
        finally:
            over.set()
        for future in calls:
            future.result()


def renewed(daemon: TlsDaemon, folder: Path) -> Pair:
    return daemon.authority.issue(folder)


def test_new_connections_get_a_renewed_certificate_and_no_call_fails(
    tls_daemon: TlsDaemon, tmp_path: Path
) -> None:
    with load(tls_daemon):
        for number in range(3):
            new = renewed(tls_daemon, tmp_path / str(number))
            serial = new.serial
            assert tls_daemon.serial() != serial
            tls_daemon.server.replace(new)
            eventually(lambda serial=serial: tls_daemon.serial() == serial)  # type: ignore[misc]


def test_hangup_reloads_the_certificate_immediately(tls_daemon: TlsDaemon, tmp_path: Path) -> None:
    new = renewed(tls_daemon, tmp_path / "new")
    serial = new.serial
    tls_daemon.server.replace(new)
    tls_daemon.daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: tls_daemon.serial() == serial)
    tls_daemon.daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: tls_daemon.logged(": unchanged: certificate") >= 1)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_many_hangups_fail_no_call(
    start_tls_daemon: StartTlsDaemon, tmp_path: Path, workers: str
) -> None:
    keystore = str(tmp_path / "keystore")
    daemon = start_tls_daemon("--disk", keystore, "--workers", workers)
    with load(daemon):
        for number in range(100):
            if number % 25 == 0:
                new = renewed(daemon, tmp_path / str(number))
                serial = new.serial
                daemon.server.replace(new)
            daemon.daemon.process.send_signal(signal.SIGHUP)
            time.sleep(0.01)  # pending signals would be merged
        eventually(lambda: all(daemon.serial() == serial for _ in range(8)))
    assert daemon.daemon.process.poll() is None
    assert daemon.logged("restarting it") == 0


def test_hangup_without_tls_does_not_end_the_daemon(start_tls_daemon: StartTlsDaemon) -> None:
    daemon = start_tls_daemon().daemon
    daemon.process.send_signal(signal.SIGHUP)
    with kekd.Client(daemon.address) as client:
        client.wait()
    assert daemon.process.poll() is None


@pytest.fixture
def daemon_with_a_policy(start_tls_daemon: StartTlsDaemon) -> TlsDaemon:
    return start_tls_daemon(config=policy_for("anything"))


def policy_for(index: str) -> dict[str, Any]:
    return {"policy": [{"name": "r", "identities": "*", "methods": "*", "indexes": index}]}


def wait_for_a_check(daemon: TlsDaemon) -> None:
    """Returns when the daemon has checked all its files once more: between two changes of its
    policy, which it notices one after the other.
    """
    for index in ("first", "second"):
        before = daemon.logged("now in use: a policy")
        daemon.daemon.configure(policy_for(index))
        eventually(lambda before=before: daemon.logged("now in use: a policy") > before)  # type: ignore[misc]


def test_mismatched_pair_is_rejected_and_logged_once(
    daemon_with_a_policy: TlsDaemon, tmp_path: Path
) -> None:
    tls_daemon = daemon_with_a_policy
    old, new = tls_daemon.serial(), renewed(tls_daemon, tmp_path / "new")
    serial = new.serial
    new.cert.replace(tls_daemon.server.cert)
    eventually(lambda: tls_daemon.logged(REFUSED) == 1)
    assert tls_daemon.logged("not the key of") == 1
    wait_for_a_check(tls_daemon)
    assert [tls_daemon.serial(), tls_daemon.logged(REFUSED)] == [old, 1]
    new.key.replace(tls_daemon.server.key)
    eventually(lambda: tls_daemon.serial() == serial)


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("empty", "not certificates in PEM, or not all of them"),
        ("cut off", "not PEM: a block has no end: the file is truncated"),
        ("gone", "cannot be read: No such file or directory"),
        ("expired", " expired "),
        ("early", " is not valid before "),
    ],
)
def test_unusable_file_is_rejected(
    tls_daemon: TlsDaemon, tmp_path: Path, what: str, problem: str
) -> None:
    old, path = tls_daemon.serial(), tls_daemon.server.cert
    match what:
        case "empty":
            path.write_bytes(b"")
        case "cut off":
            path.write_bytes(path.read_bytes()[:-40])
        case "gone":
            path.unlink()
        case "expired":
            new = tls_daemon.authority.issue(tmp_path / "new", begins=-2 * DAY, ends=-DAY)
            tls_daemon.server.replace(new)
        case _:
            new = tls_daemon.authority.issue(tmp_path / "new", begins=DAY, ends=2 * DAY)
            tls_daemon.server.replace(new)
    eventually(lambda: tls_daemon.logged(problem) == 1)
    assert tls_daemon.serial() == old
    new = renewed(tls_daemon, tmp_path / "good")
    serial = new.serial
    tls_daemon.server.replace(new)
    eventually(lambda: tls_daemon.serial() == serial)


def test_glued_certificates_are_served_after_a_renewal(
    tls_daemon: TlsDaemon, tmp_path: Path
) -> None:
    new = renewed(tls_daemon, tmp_path / "new")
    serial = new.serial
    new.cert.write_bytes(new.cert.read_bytes().rstrip() + tls_daemon.authority.cert.read_bytes())
    tls_daemon.server.replace(new)
    eventually(lambda: tls_daemon.logged("now in use") == 1)
    assert tls_daemon.serial() == serial


def test_key_unsupported_by_grpc_is_refused_and_reported(
    tls_daemon: TlsDaemon, tmp_path: Path
) -> None:
    old = tls_daemon.serial()
    key = ed25519.Ed25519PrivateKey.generate()
    tls_daemon.server.replace(tls_daemon.authority.issue_for(key, tmp_path / "new"))
    eventually(lambda: tls_daemon.logged(REFUSED) == 1)
    assert tls_daemon.logged("Ed25519 key") == 1
    assert tls_daemon.serial() == old
    with kekd.Client(tls_daemon.address, tls=tls_daemon.tls) as client:
        (certificate,) = client.status().certificates
    assert "no TLS handshake succeeds" in certificate.error
    good = renewed(tls_daemon, tmp_path / "good")
    serial = good.serial
    tls_daemon.server.replace(good)
    eventually(lambda: tls_daemon.serial() == serial)
    with kekd.Client(tls_daemon.address, tls=tls_daemon.tls) as client:
        (certificate,) = client.status().certificates
    assert certificate.error == ""


def test_replaced_client_ca_refuses_new_connections_of_its_old_clients(
    tls_daemon: TlsDaemon, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    pair = other.issue(tmp_path / "new client")
    new = kekd.Tls(ca=tls_daemon.authority.cert, cert=pair.cert, key=pair.key)
    with kekd.Client(tls_daemon.address, tls=tls_daemon.tls) as connected:
        connected.wait()
        other.cert.replace(tls_daemon.client_ca)
        with kekd.Client(tls_daemon.address, tls=new) as client:
            client.wait()
        with (
            kekd.Client(tls_daemon.address, tls=tls_daemon.tls, timeout=5) as late,
            pytest.raises(kekd.UnavailableError),
        ):
            list(late.list_index_kms())
        # A renewal doesn't affect open connections.
        assert list(connected.list_index_kms()) == []


def test_kubernetes_swaps_a_link_to_the_folder(
    start_tls_daemon: StartTlsDaemon, tmp_path: Path
) -> None:
    daemon = start_tls_daemon(links=True)
    new = renewed(daemon, tmp_path / "..second")
    serial = new.serial
    (tmp_path / "..second" / "client_ca.crt").write_bytes(daemon.authority.cert.read_bytes())
    (tmp_path / "..tmp").symlink_to("..second")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    eventually(lambda: daemon.serial() == serial)
    assert daemon.logged(REFUSED) == 0


def test_warning_for_an_expiring_certificate_is_logged_once(
    daemon_with_a_policy: TlsDaemon, tmp_path: Path
) -> None:
    tls_daemon = daemon_with_a_policy
    assert tls_daemon.logged("; renew it") == 0
    tls_daemon.server.replace(tls_daemon.authority.issue(tmp_path / "new", ends=6 * DAY))
    eventually(lambda: tls_daemon.logged("; renew it") == 1)
    wait_for_a_check(tls_daemon)
    assert tls_daemon.logged("; renew it") == 1


def test_no_key_is_in_the_log(tls_daemon: TlsDaemon, tmp_path: Path) -> None:
    key = tls_daemon.server.key.read_text().splitlines()[1]
    tls_daemon.server.key.write_text("no key")
    eventually(lambda: tls_daemon.logged("not a private key in PEM without a passphrase") == 1)
    assert key not in tls_daemon.daemon.read_log()
