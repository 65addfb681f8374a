"""The status of a daemon, from both clients, from kekctl, and on each listener."""

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

import kekd
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, both_engines, clean_environment
from tests.fixtures.forgetful_s3 import StartForgetful
from tests.fixtures.kekctl import kekctl
from tests.fixtures.s3 import CREDENTIALS, Bucket, free_port
from tests.fixtures.tls import TlsDaemon
from tests.fixtures.workers import StartWorkers
from tests.patience import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def status_of(address: str) -> Any:
    return json.loads(kekctl("--address", address, "status", "--output", "json").stdout)


@both_engines
def test_status_has_every_field(daemon: Daemon, engine: str) -> None:
    before = datetime.now(UTC)
    with kekd.Client(daemon.address) as client:
        status = client.status()
    assert before - timedelta(minutes=1) < status.started_at < before < status.now
    assert status.now < datetime.now(UTC)
    assert status == kekd.DaemonStatus(
        version="0.1.0",
        started_at=status.started_at,
        now=status.now,
        engine="native" if engine == "native" else "grpcio",
        workers=1,
        stores=(
            kekd.StoreStatus(
                "memory",
                is_default=True,
                healthy=True,
                history="kept in memory, 10 versions, 30 days",
            ),
        ),
        certificates=(),
    )


def test_json_status_has_the_skew_of_the_clocks(memory_daemon: Daemon) -> None:
    assert status_of(memory_daemon.address)["clock_skew_seconds"] == 0


def break_policy(daemon: Daemon) -> None:
    daemon.configure({"policy": [{"name": "a", "identities": "*", "methods": "reed"}]})


@pytest.mark.parametrize(
    ("methods", "shown"), [("*", "policy.0.methods"), ("", "the daemon's log")]
)
def test_refused_policy_and_failing_audit_are_reported(
    start_daemon: StartDaemon, methods: str, shown: str
) -> None:
    rules = [{"name": "a", "identities": "*", "methods": methods}] if methods else []
    daemon = start_daemon("--memory", "--audit", "/dev/full", config={"policy": rules})
    with kekd.Client(daemon.address) as client:
        found = client.status()
        assert (found.policy_error, found.audit_error) == ("", "")
        with pytest.raises(kekd.EnvelopeError):
            client.push_index_kms(None, "i", kekd.KMSBlob(provider="none"))
        break_policy(daemon)
        eventually(lambda: shown in client.status().policy_error)
        eventually(lambda: client.status().audit_error != "")
        if methods:
            assert "No space left" in client.status().audit_error
    printed = kekctl("--address", daemon.address, "status").stdout
    assert "policy      changed policy rejected, previous one in use: " in printed
    assert "audit       audit log not writable: " in printed
    found_wrong = kekctl("--address", daemon.address, "doctor", code=1).stdout
    assert "failure  policy: changed policy rejected" in found_wrong
    assert "failure  audit: audit log not writable" in found_wrong


async def test_async_client_gets_the_same_status(memory_daemon: Daemon) -> None:
    with kekd.Client(memory_daemon.address) as client:
        first = client.status()
    async with kekd.AsyncClient(memory_daemon.address) as other:
        second = await other.status()
    assert (second.started_at, second.stores) == (first.started_at, first.stores)
    assert second.now > first.now


def test_each_listener_reports_its_own_engine(start_daemon: StartDaemon, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "kekd.yaml"
    config.write_text(
        f'listen: [{{address: "unix:{tmp_path}/native.sock", engine: native}}, "127.0.0.1:{port}"]'
    )
    flags = ("--config", str(config), "--memory")
    process = subprocess.Popen([BIN / "kekd", *flags], env=clean_environment())
    try:
        engines = {}
        for address in (f"unix:{tmp_path}/native.sock", f"127.0.0.1:{port}"):
            kekctl("--address", address, "wait")
            engines[address.partition(":")[0]] = status_of(address)["engine"]
    finally:
        process.kill()
        process.wait()
    assert engines == {"unix": "native", "127.0.0.1": "grpcio"}


def test_stores_are_named_as_in_the_log_with_the_default_first(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    disk = tmp_path / "keystore"
    daemon = start_daemon("--memory", "--disk", str(disk))
    status = status_of(daemon.address)
    assert [(store["name"], store["is_default"]) for store in status["stores"]] == [
        (f"disk:{disk}", True),
        ("memory", False),
    ]
    assert f"serving disk:{disk}, memory on" in daemon.read_log()


def test_workers_are_counted(start_workers: StartWorkers) -> None:
    assert status_of(start_workers(workers=2).address)["workers"] == 2


def expiry(file: Path) -> datetime:
    return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc


def test_status_shows_the_certificate_in_use(tls_daemon: TlsDaemon, tmp_path: Path) -> None:
    file = tls_daemon.server.cert
    with kekd.Client(tls_daemon.address, tls=tls_daemon.tls) as client:
        assert client.status().certificates == (kekd.CertificateStatus(str(file), expiry(file)),)
        renewed = tls_daemon.authority.issue(tmp_path / "renewed", ends=timedelta(days=90))
        ends = expiry(renewed.cert)
        tls_daemon.server.replace(renewed)
        eventually(lambda: client.status().certificates[0].expires_at == ends)


def test_status_table_shows_every_field(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon("--disk", str(tmp_path / "keystore"))
    rows = [
        line.split(maxsplit=1)
        for line in kekctl("--address", daemon.address, "status").stdout.splitlines()
    ]
    names, values = zip(*rows, strict=True)
    assert names == ("version", "started_at", "now", "engine", "workers", "store", "history")
    assert values[0] == "0.1.0"
    assert values[2].endswith("Z (in sync with this machine)")
    assert values[5] == f"disk:{tmp_path}/keystore (default): healthy"
    assert values[6] == f"disk:{tmp_path}/keystore: kept on disk, 10 versions, 30 days"


@pytest.mark.parametrize(
    ("asked", "answered", "lead"), [(-1, 1, 0), (0, 0, 0), (-9, -7, 7), (3, 5, -3)]
)
def test_skew_within_the_call_duration_is_zero(asked: int, answered: int, lead: int) -> None:
    status = kekd.DaemonStatus("", NOW, NOW, "", 1, (), ())
    second = timedelta(seconds=1)
    assert status.clock_skew(NOW + asked * second, NOW + answered * second) == lead * second


def test_condition_that_the_s3_server_ignores_is_a_warning(
    start_daemon: StartDaemon, bucket: Bucket, start_forgetful: StartForgetful
) -> None:
    server = start_forgetful(bucket.endpoint, "If-None-Match")
    flags = replace(bucket, endpoint=server.endpoint).flags
    daemon = start_daemon(*flags, env=CREDENTIALS)
    eventually(lambda: status_of(daemon.address)["stores"][0]["warning"])
    (store,) = status_of(daemon.address)["stores"]
    assert store["healthy"]
    said = f"({server.endpoint}) does not honour If-None-Match in PutObject: "
    assert said in store["warning"]
    assert daemon.read_log().count(said) == 1
    shown = kekctl("--address", daemon.address, "status").stdout
    assert f"warning     s3:{bucket.name}: {store['warning']}" in shown
