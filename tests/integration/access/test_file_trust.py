"""A daemon and its tools report files and folders that other users could change."""

from pathlib import Path

import pytest
import yaml

import kekd
from tests.fixtures.daemon import BIN, StartDaemon, refusal
from tests.fixtures.kekctl import json_lines, kekctl
from tests.fixtures.s3 import free_port
from tests.fixtures.tls import StartTlsDaemon
from tests.patience import eventually


def listen(folder: Path) -> list[str]:
    addresses = (f"unix:{folder}/run/kekd.sock", f"127.0.0.1:{free_port()}")
    return [f"--listen={address}" for address in addresses]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_world_writable_configuration_is_refused(tmp_path: Path, workers: str) -> None:
    config = tmp_path / "kekd.yaml"
    config.write_text(yaml.safe_dump({"disk": [str(tmp_path / "keystore")], "policy": []}))
    config.chmod(0o646)
    said = refusal(BIN / "kekd", "--config", config, "--workers", workers, *listen(tmp_path))
    assert f"kekd: {config}: anyone can write to it; run chmod o-w {config}\n" in said


def test_world_writable_audit_is_refused(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    audit.touch()
    audit.chmod(0o666)
    said = refusal(BIN / "kekd", "--memory", "--audit", audit, *listen(tmp_path))
    assert f"kekd: {audit}: anyone can write to it; run chmod o-w {audit}\n" in said


def test_world_writable_policy_is_not_applied(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--memory", config={"policy": []})
    daemon.config.chmod(0o646)
    everything = {"name": "all", "identities": "*", "methods": "*"}
    daemon.config.write_text(yaml.safe_dump({"policy": [everything]}))  # keeps the mode
    eventually(lambda: "anyone can write to it" in daemon.read_log())
    with kekd.Client(daemon.address) as client, pytest.raises(kekd.PermissionDeniedError):
        list(client.list_index_kms())
    daemon.config.chmod(0o644)
    with kekd.Client(daemon.address) as client:
        eventually(lambda: is_allowed(client))


def is_allowed(client: kekd.Client) -> bool:
    try:
        return list(client.list_index_kms()) == []
    except kekd.PermissionDeniedError:
        return False


def test_warnings_are_in_the_log_the_status_and_the_doctors_findings(
    start_tls_daemon: StartTlsDaemon, tmp_path: Path
) -> None:
    keystore, shared = tmp_path / "keystore", tmp_path / "shared"
    for folder in (keystore, shared):
        folder.mkdir()
        folder.chmod(0o777)
    (shared / "own").mkdir(mode=0o700)
    address = ("--listen", f"unix:{shared}/own/kekd.sock")
    daemon = start_tls_daemon("--disk", str(keystore), *address)
    replaced = "anyone can replace files in this folder; run chmod o-w"
    expected = [f"{folder}: {replaced} {folder}" for folder in (shared, keystore)]
    for warning in expected:
        assert daemon.logged(f"WARNING {warning}") == 1
    with kekd.Client(daemon.daemon.address) as client:
        assert client.status().warnings == tuple(expected)
    findings = json_lines(kekctl("--address", daemon.daemon.address, "doctor", "-o", "json"))
    assert [
        finding["text"] for finding in findings if finding["check"] == "daemon's files"
    ] == expected
    assert "warning" in kekctl("--address", daemon.daemon.address, "status").stdout


def test_remote_callers_get_no_warnings(start_tls_daemon: StartTlsDaemon, tmp_path: Path) -> None:
    keystore = tmp_path / "keystore"
    keystore.mkdir()
    keystore.chmod(0o777)
    daemon = start_tls_daemon("--disk", str(keystore), host="0.0.0.0")
    with kekd.Client(daemon.address, tls=daemon.tls) as client:
        assert client.status().warnings == ()
