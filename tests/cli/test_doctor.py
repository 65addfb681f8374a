"""kekctl doctor finds problems, gives advice, and leaves no envelopes behind."""

import dataclasses
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

import kekd
from kekd._cli.doctor import address, certificate, records, store
from kekd_proto.v1 import daemon_pb2 as pb
from kekd_proto.v1.daemon_pb2_grpc import DaemonServiceServicer, add_DaemonServiceServicer_to_server
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, clean_environment
from tests.fixtures.forgetful_s3 import StartForgetful
from tests.fixtures.kekctl import json_lines, kekctl
from tests.fixtures.kms import Aws
from tests.fixtures.s3 import CREDENTIALS, REGION, Bucket, free_port
from tests.fixtures.tls import DAY, Authority, TlsDaemon
from tests.patience import PATIENCE, eventually

PROMISES = [
    "writable and readable",
    "a second create is refused",
    "a push with a stale etag is refused",
    "a delete with a stale etag is refused",
    "a push with the etag of a deleted envelope is refused",
    "only one of several simultaneous creates is accepted",
    "only one of several simultaneous pushes with the same etag is accepted",
    "a push and a delete with the same etag are never both accepted",
]
MARK = "_kekd/keystore"
"""The only key of an empty keystore on S3."""


def doctor(
    called: str, *arguments: object, code: int = 0, tls: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    return read_only_doctor(called, "--write", *arguments, code=code, tls=tls)


def read_only_doctor(
    called: str, *arguments: object, code: int = 0, tls: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    flags = ("--address", called, *tls, "doctor", "--output", "json")
    return json_lines(kekctl(*flags, *arguments, code=code, env=CREDENTIALS))


def found(findings: list[dict[str, Any]], check: str) -> list[tuple[str, str]]:
    return [
        (finding["level"], finding["text"]) for finding in findings if finding["check"] == check
    ]


def failures(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [finding for finding in findings if finding["level"] == "failure"]


def flags_of(bucket: Bucket, endpoint: str) -> tuple[str, ...]:
    """Returns the flags of a daemon that reaches the bucket through the endpoint."""
    return dataclasses.replace(bucket, endpoint=endpoint).flags


def keys(bucket: Bucket) -> list[str]:
    """Returns the keys besides those that the daemon writes in the background, and the marks of
    destructions.
    """
    entries = bucket.s3.list_objects_v2(Bucket=bucket.name)["Contents"]
    others = re.compile("_kekd/(log|conditions)/|_kekd/history/kekd-doctor-.*destroyed(--)?$")
    return [entry["Key"] for entry in entries if not others.match(entry["Key"])]


def listed(daemon: Daemon) -> list[str]:
    with kekd.Client(daemon.address) as client:
        return list(client.list_index_kms())


def test_daemon_that_shows_no_store_fails(
    start_daemon: StartDaemon, tmp_path: Path, aws: Aws
) -> None:
    slots = registry(tmp_path, {"prod": slot(aws, aws.new_key())})
    daemon = start_daemon("--memory", config={"policy": []})
    findings = doctor(daemon.address, "--slots", slots, code=1)
    assert [failure["check"] for failure in failures(findings)] == ["stores"]
    assert [level for level, _ in found(findings, "slot prod")] == ["ok"]


def test_healthy_daemon_passes_all_checks(start_daemon: StartDaemon, tmp_path: Path) -> None:
    keystore = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(keystore), "--memory")
    with kekd.Client(daemon.address) as client:
        eventually(lambda: all(store.healthy for store in client.status().stores))
    findings = doctor(daemon.address)
    assert {finding["level"] for finding in findings} == {"ok"}
    for check in (f"store disk:{keystore}", "store memory"):
        assert found(findings, check) == [("ok", promise) for promise in PROMISES]
    assert found(findings, f"history of disk:{keystore}") == [
        ("ok", "kept on disk, 10 versions, 30 days")
    ]
    assert {finding["check"] for finding in findings} >= {
        "socket's folder",
        "socket",
        "daemon",
        "clock",
    }
    assert listed(daemon) == []


def listed_with_deleted(daemon: Daemon) -> list[str]:
    with kekd.Client(daemon.address) as client:
        return list(client.list_index_kms(show_deleted=True))


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--write", "--dry-run")])
def test_doctor_without_writes_writes_nothing(
    start_daemon: StartDaemon, tmp_path: Path, options: tuple[str, ...]
) -> None:
    rule = {"name": "r", "identities": "*", "methods": ["read", "list"]}
    audit = tmp_path / "audit.log"
    daemon = start_daemon("--memory", "--audit", str(audit), config={"policy": [rule]})
    findings = read_only_doctor(daemon.address, *options)
    assert {finding["level"] for finding in findings} == {"ok"}
    ((_, text),) = found(findings, "store memory")
    assert text.endswith(": add --write to test them on an index kekd-doctor-...")
    assert "kekd-doctor-" not in audit.read_text()


def test_unhealthy_store_fails_without_a_test_of_its_writes() -> None:
    unhealthy = kekd.StoreStatus("memory", is_default=True, healthy=False, error_message="away")
    (finding,) = store.check_status(unhealthy)
    assert (finding.level, finding.text) == (
        "failure",
        "unhealthy at the daemon's last check: away",
    )


def test_scratch_index_is_destroyed_with_its_versions(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon("--disk", str(tmp_path / "keystore"))
    doctor(daemon.address)
    assert listed_with_deleted(daemon) == []


def test_caller_without_the_right_to_destroy_is_warned_of_the_history(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    keystore = tmp_path / "keystore"
    methods = ["read", "list", "create", "push", "delete-if-match"]
    rule = {"name": "r", "identities": "*", "methods": methods}
    daemon = start_daemon("--disk", str(keystore), config={"policy": [rule]})
    (warned,) = (one for one in doctor(daemon.address) if one["level"] == "warning")
    (index,) = listed_with_deleted(daemon)
    assert warned["text"] == f"the scratch index {index} is deleted, and remains in the history"
    command = f"kekctl destroy {index} --store disk:{keystore} --reason 'end of kekctl doctor'"
    assert warned["advice"].endswith(f"destroy it: {command}")
    assert listed(daemon) == []


@pytest.mark.parametrize("command", [("-o", "name", "doctor"), ("doctor", "-o", "name")])
def test_doctor_refuses_to_print_names(command: tuple[str, ...]) -> None:
    assert "Error: " in kekctl(*command, code=2).stderr


def records_of(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [finding for finding in findings if finding["check"].startswith("records of ")]


def test_corrupt_record_is_found_with_the_advice_to_restore_it(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    keystore = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(keystore))
    with kekd.Client(daemon.address) as client:
        for name in ("a", "it's bad", "c"):
            client.create_index_kms(None, name, kekd.KMSBlob(provider="none"))
    (corrupt,) = (keystore / "_catalog/config").glob("it*")
    corrupt.write_bytes(b"damaged")
    found, total = records_of(doctor(daemon.address, code=1))
    assert (found["level"], total["level"]) == ("failure", "failure")
    assert "index 'it's bad' is corrupt" in found["text"]
    assert "delete" not in found["text"] + found["advice"]
    command = f"kekctl import BACKUP --index 'it'\"'\"'s bad' --overwrite --store disk:{keystore}"
    assert found["advice"].endswith(command)
    assert total["text"] == "1 corrupt, 0 unreadable, 2 intact"


def test_read_is_limited_to_the_requested_records(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon("--disk", str(tmp_path / "keystore"))
    with kekd.Client(daemon.address) as client:
        for number in range(5):
            client.create_index_kms(None, str(number), kekd.KMSBlob(provider="none"))
    for asked, count in ((("--records", "3"), 3), ((), 5)):
        (total,) = records_of(doctor(daemon.address, *asked))
        text = f"all {count} records read are intact"
        assert (total["level"], total["text"]) == ("ok", text)
    assert records_of(doctor(daemon.address, "--records", "0")) == []


def test_sample_contains_any_name() -> None:
    names = [str(number) for number in range(20)]
    seen = {name for _ in range(500) for name in records.sample(names, 3)}
    assert seen == set(names)
    assert records.sample(names, 100) == names


def test_caller_without_the_right_to_list_is_warned(start_daemon: StartDaemon) -> None:
    rule = {"name": "r", "identities": "*", "indexes": "kekd-doctor-*"}
    methods = ["read", "create", "push", "delete-if-match", "destroy"]
    daemon = start_daemon("--memory", config={"policy": [{**rule, "methods": methods}]})
    (found,) = records_of(doctor(daemon.address))
    assert (found["level"], found["advice"]) == ("warning", "allow this caller to list and read")


def test_line_has_the_level_and_the_advice(daemon: Daemon) -> None:
    daemon.socket.chmod(0o666)
    lines = kekctl("--address", daemon.address, "doctor", "--write").stdout.splitlines()
    assert f"ok       store memory: {PROMISES[0]}" in lines
    (warned,) = (line for line in lines if line.startswith("warning"))
    assert warned.startswith(f"warning  socket: {daemon.socket} has mode 0666: ")
    assert warned.endswith(f"; chmod o-w {daemon.socket}")


def test_only_the_given_store_is_checked(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon("--disk", str(tmp_path / "keystore"), "--memory")
    findings = doctor(daemon.address, "--store", "memory")
    assert [finding["check"] for finding in findings if finding["check"].startswith("store")] == [
        "store memory"
    ] * len(PROMISES)
    (failure,) = failures(doctor(daemon.address, "--store", "disk:/elsewhere", code=1))
    assert failure["advice"] == f"use disk:{tmp_path}/keystore, memory"


def test_caller_without_rights_fails(start_daemon: StartDaemon) -> None:
    rule = {"name": "others", "identities": "listener:others", "methods": "*"}
    daemon = start_daemon("--memory", config={"policy": [rule]})
    findings = doctor(daemon.address, code=1)
    (failed,) = failures(findings)
    assert "no policy rule allows this caller" in failed["text"]


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_folder_writable_by_others_fails(daemon: Daemon, mode: int) -> None:
    folder = daemon.socket.parent
    folder.chmod(mode)
    ((level, text),) = found(doctor(daemon.address, code=1), "socket's folder")
    assert (level, text) == (
        "failure",
        f"other users can write to {folder} and replace the socket",
    )


def test_checks_continue_without_a_daemon(tmp_path: Path, aws: Aws) -> None:
    slots = registry(tmp_path, {"prod": slot(aws, aws.new_key())})
    findings = doctor(f"unix:{tmp_path}/nobody.sock", "--slots", slots, code=1)
    assert [failure["check"] for failure in failures(findings)] == [
        "socket's folder",
        "socket",
        "daemon",
    ]
    assert found(findings, "slot prod")[0][0] == "ok"


def test_file_that_is_no_socket_fails(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    findings = doctor(f"unix:{file}", code=1)
    assert ("failure", f"{file} is not a socket") in found(findings, "socket")


def test_folder_of_another_user_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    owned = SimpleNamespace(st_uid=4242, st_gid=0, st_mode=stat.S_IFSOCK | 0o700)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", lambda _: owned)
        patch.setattr(Path, "lstat", lambda _: SimpleNamespace(st_uid=1000))
        folder, _ = address.check("unix:/run/kekd/kekd.sock", tls=False)
    assert (folder.level, "can replace the socket" in folder.text) == ("failure", True)


def test_socket_of_another_group_fails(
    memory_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    _, socket = address.check(memory_daemon.address, tls=False)
    assert (socket.level, socket.text) == (
        "failure",
        f"no permission to connect to {memory_daemon.socket}",
    )
    assert socket.advice == f"join the group {memory_daemon.socket.group()}"


def test_network_without_tls_fails() -> None:
    (finding,) = address.check("kekd.example:7535", tls=False)
    assert (finding.level, finding.advice) == ("failure", "give --ca, --cert and --key")


def test_loopback_without_tls_is_warned_of(start_daemon: StartDaemon) -> None:
    port = free_port()
    start_daemon("--memory", "--listen", f"127.0.0.1:{port}")
    ((level, text),) = found(doctor(f"127.0.0.1:{port}"), "address")
    assert (level, "every user of this machine can call it" in text) == ("warning", True)


# Stores


def test_healthy_s3_passes_all_checks(start_daemon: StartDaemon, bucket: Bucket) -> None:
    daemon = start_daemon(*bucket.flags, env=CREDENTIALS)
    with kekd.Client(daemon.address) as client:
        eventually(lambda: client.status().stores[0].history != "")
    findings = doctor(daemon.address)
    name = f"s3:{bucket.name}"
    assert found(findings, f"store {name}") == [("ok", promise) for promise in PROMISES]
    ((level, history),) = found(findings, f"history of {name}")
    assert level == "ok"
    assert "enable versioning of the bucket" in history
    assert keys(bucket) == [MARK]


@pytest.mark.parametrize(
    ("forgotten", "broken"),
    [
        (
            ("If-None-Match",),
            [
                ("a second create replaced the first", "If-None-Match in PutObject"),
                ("several simultaneous creates were accepted", "If-None-Match in PutObject"),
            ],
        ),
        (
            ("If-Match",),
            [
                (
                    "several simultaneous pushes with the same etag were accepted",
                    "If-Match in PutObject",
                )
            ],
        ),
    ],
)
def test_s3_without_conditional_writes_fails(
    start_daemon: StartDaemon,
    bucket: Bucket,
    start_forgetful: StartForgetful,
    forgotten: tuple[str, ...],
    broken: list[tuple[str, str]],
) -> None:
    forgetful = start_forgetful(bucket.endpoint, *forgotten)
    daemon = start_daemon(*flags_of(bucket, forgetful.endpoint), env=CREDENTIALS)
    found = failures(doctor(daemon.address, code=1))
    assert causes(found) == broken
    assert all("MinIO before RELEASE.2025-09-07" in failure["advice"] for failure in found)
    assert keys(bucket) == [MARK]


def causes(found: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Returns what each failure says that happened, and what the S3 server doesn't honour."""
    separator = ": the S3 server does not honour | in one step with the write, so |, so "
    return [tuple(re.split(separator, failure["text"])[:2]) for failure in found]


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        (
            "PUT",
            [
                ("several simultaneous creates were accepted", "If-None-Match in PutObject"),
                (
                    "several simultaneous pushes with the same etag were accepted",
                    "If-Match in PutObject",
                ),
            ],
        ),
        (
            "DELETE",
            [
                (
                    "a push and a delete with the same etag were both accepted",
                    "If-Match in DeleteObject",
                )
            ],
        ),
    ],
)
def test_s3_that_compares_before_it_writes_fails(
    start_daemon: StartDaemon,
    bucket: Bucket,
    start_forgetful: StartForgetful,
    method: str,
    broken: list[tuple[str, str]],
) -> None:
    s3 = start_forgetful(bucket.endpoint)
    s3.racy.add(method)
    daemon = start_daemon(*flags_of(bucket, s3.endpoint), env=CREDENTIALS)
    found = failures(doctor(daemon.address, code=1))
    assert causes(found) == broken
    assert all("versioning" in failure["advice"] for failure in found)
    assert keys(bucket) == [MARK]


def test_s3_that_refuses_its_own_etags_is_named_as_the_cause(
    start_daemon: StartDaemon, bucket: Bucket, start_forgetful: StartForgetful
) -> None:
    s3 = start_forgetful(bucket.endpoint)
    s3.refuses_etags = True
    daemon = start_daemon(*flags_of(bucket, s3.endpoint), env=CREDENTIALS)
    with kekd.Client(daemon.address) as client:
        eventually(lambda: client.status().stores[0].warning)
    findings = json_lines(
        kekctl(
            "--address",
            daemon.address,
            "--timeout",
            "60",
            "doctor",
            "--write",
            "-o",
            "json",
            code=1,
        )
    )
    (failed,) = failures(findings)
    assert failed["text"].startswith("a push with the right etag failed: ")
    assert "the S3 server does not honour conditional writes" in failed["text"]
    warned = (
        f"the S3 server ({s3.endpoint}) does not honour If-Match in PutObject, If-Match in"
        " DeleteObject: "
    )
    assert any(finding["text"].startswith(warned) for finding in findings)


def test_unwritable_store_fails(start_daemon: StartDaemon, tmp_path: Path) -> None:
    keystore = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(keystore), "--memory")
    keystore.rename(tmp_path / "moved")
    findings = doctor(daemon.address, code=1)
    problem = f"failed: the folder {keystore} is missing: its volume may not be mounted; mount it"
    texts = [failure["text"] for failure in failures(findings)]
    assert texts == [f"a create {problem}", f"reading {problem}"]
    assert len(found(findings, "store memory")) == len(PROMISES)


def test_last_failed_check_of_the_daemon_is_only_a_warning(client: kekd.Client) -> None:
    unhealthy = kekd.StoreStatus("memory", is_default=True, healthy=False, error_message="away")
    findings = store.check_writes(client, unhealthy, lambda: False)
    assert [finding.level for finding in findings] == ["warning", *["ok"] * len(PROMISES)]
    assert findings[0].text == "unhealthy at the daemon's last check: away"


def test_possible_scratch_index_is_reported(
    start_daemon: StartDaemon, bucket: Bucket, start_forgetful: StartForgetful
) -> None:
    s3 = start_forgetful(bucket.endpoint)
    daemon = start_daemon(*flags_of(bucket, s3.endpoint), env=CREDENTIALS)
    s3.answer.clear()
    arguments = ("--address", daemon.address, "--timeout", "2", "doctor", "--write", "-o", "json")
    findings = json_lines(kekctl(*arguments, code=1))
    assert failures(findings)[0]["text"].startswith("a create failed: ")
    (warning,) = (finding for finding in findings if "may remain" in finding["text"])
    (name,) = re.findall(r"kekctl destroy (kekd-doctor-\w+) --store s3:", warning["advice"])
    s3.answer.set()
    eventually(lambda: listed(daemon) == [name])


def test_no_scratch_index_is_reported_where_the_audit_refuses_all_writes(
    start_daemon: StartDaemon,
) -> None:
    findings = doctor(start_daemon("--memory", "--audit", "/dev/full").address, code=1)
    assert any("audit log not writable" in failure["text"] for failure in failures(findings))
    assert not any("may remain" in finding["text"] for finding in findings)


def test_stopped_daemon_gives_the_advice_of_every_command(start_daemon: StartDaemon) -> None:
    stopped = start_daemon("--memory")
    stopped.process.send_signal(signal.SIGSTOP)
    shown = kekctl("--address", stopped.address, "--timeout", "0.3", "doctor", code=1).stdout
    assert "with a longer timeout (kekctl: --timeout)" in shown


def test_ctrl_c_waits_for_the_call_and_cleans_up(
    start_daemon: StartDaemon, bucket: Bucket, start_forgetful: StartForgetful
) -> None:
    s3 = start_forgetful(bucket.endpoint)
    daemon = start_daemon(*flags_of(bucket, s3.endpoint), env=CREDENTIALS)
    s3.answer.clear()
    command = [str(BIN / "kekctl"), "--address", daemon.address, "doctor", "--write"]
    with subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE) as process:
        assert s3.asked.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        s3.answer.set()
        output, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, b"may remain" in output) == (130, False)
    assert PROMISES[0].encode() in output
    assert PROMISES[1].encode() not in output
    assert keys(bucket) == [MARK]


# Clocks and certificates


class SkewedDaemon(DaemonServiceServicer):
    """A daemon that has only a status, with a skewed clock."""

    def __init__(self, lead: timedelta, *certificates: pb.CertificateStatus) -> None:
        self.lead = lead
        self.certificates = certificates

    def GetStatus(self, _request: object, _context: object) -> pb.GetStatusResponse:
        now = datetime.now(UTC) + self.lead
        return pb.GetStatusResponse(
            version="0", started_at=now, now=now, certificates=self.certificates
        )


@contextmanager
def serving(daemon: SkewedDaemon) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    add_DaemonServiceServicer_to_server(daemon, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("lead", "level"),
    [(2, "ok"), (-8, "warning"), (10, "warning"), (400, "failure"), (-400, "failure")],
)
def test_skewed_clock_is_reported(lead: int, level: str) -> None:
    with serving(SkewedDaemon(timedelta(seconds=lead))) as called:
        findings = doctor(called, code=1)  # because it has no stores
    ((found_level, text),) = found(findings, "clock")
    (seconds,) = re.findall(r"([\d.]+) s", text)
    assert found_level == level
    assert float(seconds) == pytest.approx(abs(lead), abs=1)  # minus the time of the call
    assert ("ahead" in text, "behind" in text) == (level != "ok" and lead > 0, lead < 0)


@pytest.mark.parametrize(
    ("days", "level"), [(15, "ok"), (14, "ok"), (13, "warning"), (1, "warning"), (-1, "failure")]
)
def test_certificate_near_its_expiry_is_reported(days: int, level: str) -> None:
    now = datetime.now(UTC)
    assert certificate.check("c", "tls.crt", now + days * DAY, now).level == level


def test_certificate_of_the_daemon_is_checked() -> None:
    ends = pb.CertificateStatus(file="/etc/tls.crt", expires_at=datetime.now(UTC) + 3 * DAY)
    with serving(SkewedDaemon(timedelta(), ends)) as called:
        ((level, text),) = found(doctor(called, code=1), "certificate")
    assert (level, text) == ("warning", "/etc/tls.crt expires in 2 days")


@pytest.mark.parametrize(
    ("begins", "ends", "level"),
    [(-DAY, 30 * DAY, "ok"), (-DAY, 3 * DAY, "warning"), (-9 * DAY, -DAY, "failure")],
)
def test_own_certificate_is_checked(
    shared_tls_daemon: TlsDaemon, tmp_path: Path, begins: timedelta, ends: timedelta, level: str
) -> None:
    own = shared_tls_daemon.authority.issue(tmp_path / "own", begins=begins, ends=ends)
    tls = (
        "--ca",
        str(shared_tls_daemon.authority.cert),
        "--cert",
        str(own.cert),
        "--key",
        str(own.key),
    )
    findings = doctor(shared_tls_daemon.address, tls=tls, code=int(level == "failure"))
    assert found(findings, "own certificate")[0][0] == level
    assert found(findings, "address") == [("ok", f"{shared_tls_daemon.address} uses TLS")]
    if level != "failure":
        assert found(findings, "certificate")[0][0] == "ok"


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (ec.generate_private_key(ec.SECP521R1()), "ECDSA secp521r1"),
        (rsa.generate_private_key(65537, 1024), "RSA-1024"),
        (rsa.generate_private_key(65537, 2048), ""),
    ],
)
def test_own_certificate_with_an_unsupported_key_fails(
    key: CertificateIssuerPrivateKeyTypes, kind: str, authority: Authority, tmp_path: Path
) -> None:
    finding = certificate.check_own(authority.issue_for(key, tmp_path / "own").cert)
    assert (f"unsupported key: {kind}" in finding.text) == bool(kind)
    assert finding.level == ("failure" if kind else "warning")  # it expires in a day


def test_certificate_that_is_not_valid_yet_fails(authority: Authority, tmp_path: Path) -> None:
    own = authority.issue(tmp_path / "own", begins=DAY)
    assert certificate.check_own(own.cert).level == "failure"


def test_missing_cryptography_is_a_warning(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = authority.issue(tmp_path / "own")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    finding = certificate.check_own(own.cert)
    assert (finding.level, "pip install '.[aws]'" in finding.advice) == ("warning", True)


# Slots


def slot(aws: Aws, key_id: str, provider: str = "aws-kms", **more: object) -> dict[str, object]:
    return {
        "provider": provider,
        "key_id": key_id,
        "region": REGION,
        "endpoint_url": aws.endpoint,
    } | more


def registry(folder: Path, slots: dict[str, Any]) -> Path:
    file = folder / "registry.yaml"
    file.write_text(yaml.safe_dump({"kms": {"registry": slots}}))
    return file


def test_each_slot_is_tried(memory_daemon: Daemon, aws: Aws, tmp_path: Path) -> None:
    file = registry(
        tmp_path,
        {
            "kms": slot(aws, aws.new_key()),
            "bound": slot(aws, aws.new_key(), encryption_context=True),
            "secret": slot(aws, aws.new_secret(), "aws"),
            "short": slot(aws, aws.new_secret(b"short"), "aws"),
            "gone": slot(aws, "alias/nobody"),
        },
    )
    findings = doctor(memory_daemon.address, "--slots", file, code=1)
    levels = {
        finding["check"]: finding["level"]
        for finding in findings
        if finding["check"].startswith("slot")
    }
    assert levels == {
        "slot kms": "ok",
        "slot bound": "ok",
        "slot secret": "ok",
        "slot short": "failure",
        "slot gone": "failure",
    }
    assert listed(memory_daemon) == []


def test_problems_of_the_registry_fail(memory_daemon: Daemon, tmp_path: Path) -> None:
    file = registry(tmp_path, {"a": {"provider": "vault"}, "b": {"provider": "aws"}})
    problems = failures(doctor(memory_daemon.address, "--slots", file, code=1))
    assert len(problems) > 1
    assert {problem["check"] for problem in problems} == {"slots"}
