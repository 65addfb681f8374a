"""The audit lines of decisions, and the outcome of calls while the log isn't writable."""

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import kekd
from tests.fixtures.calls import BLOB, CALLS
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, both_engines, refusal
from tests.fixtures.s3 import free_port
from tests.fixtures.tls import StartTlsDaemon
from tests.integration.fixtures.audit import ends, recorded
from tests.patience import PATIENCE, eventually

FIELDS = {
    *("time", "event", "request_id", "identity", "peer", "method", "store", "index"),
    *("etag_before", "etag_after", "decision", "rule", "code", "reason", "duration_ms"),
}
READ_ONLY = {
    "name": "reader",
    "identities": "*",
    "methods": ["read", "list"],
    "indexes": "mine",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def daemon(start_daemon: StartDaemon, file: Path) -> Daemon:
    return start_daemon("--memory", "--audit", str(file))


@both_engines
def test_write_is_recorded_before_and_after(daemon: Daemon, file: Path) -> None:
    with kekd.Client(daemon.address) as client:
        created = client.create_index_kms(None, "i", BLOB)
        pushed = client.push_index_kms(None, "i", kekd.KMSBlob(provider="none"))
        client.delete_index_kms(None, "i")
    eventually(lambda: len(recorded(file)) == 6)
    entries = recorded(file)
    assert all(entry.keys() == FIELDS for entry in entries)
    assert [entry["event"] for entry in entries] == ["begin", "end"] * 3
    for begin, end in zip(entries[::2], entries[1::2], strict=True):
        assert begin["request_id"] == end["request_id"]
        assert begin["code"] is begin["etag_after"] is None
        assert end["code"] == "OK"
        assert 0 < end["duration_ms"] < 10_000
    assert [
        (entry["method"], entry["etag_before"], entry["etag_after"]) for entry in entries[1::2]
    ] == [
        ("create", None, created),
        ("push", created, pushed),
        ("delete", pushed, None),
    ]


@both_engines
def test_read_is_recorded_before_its_answer(daemon: Daemon, file: Path) -> None:
    with kekd.Client(daemon.address) as client:
        etag = client.create_index_kms(None, "i", BLOB)
        client.get_index_kms(None, "i")
        with pytest.raises(kekd.EnvelopeNotFoundError):
            client.get_index_kms(None, "never")
    eventually(lambda: len(recorded(file)) == 4)
    found, missing = recorded(file)[2:]
    assert found["event"] == missing["event"] == "end"
    assert (found["index"], found["etag_after"], found["code"]) == ("i", etag, "OK")
    assert (missing["index"], missing["etag_after"]) == ("never", None)
    assert (missing["code"], missing["reason"]) == ("NOT_FOUND", "ENVELOPE_NOT_FOUND")
    assert found["reason"] is None
    assert found["store"] == "memory"
    assert found["identity"] == "listener:unix"
    assert (found["decision"], found["rule"]) == ("allowed", "local")
    age = datetime.now(UTC) - datetime.fromisoformat(found["time"])
    assert timedelta() <= age < timedelta(seconds=60)


def test_denied_call_is_recorded_with_its_caller(
    start_tls_daemon: StartTlsDaemon, file: Path
) -> None:
    daemon = start_tls_daemon("--memory", "--audit", str(file), config={"policy": [READ_ONLY]})
    with kekd.Client(daemon.address, tls=daemon.tls) as client:
        for index in ("mine", "other"):
            with pytest.raises(kekd.PermissionDeniedError):
                client.push_index_kms(None, index, BLOB)
    eventually(lambda: len(recorded(file)) == 2)
    entry = recorded(file)[0]
    assert entry["identity"] == "dns:client.example"
    assert entry["peer"].startswith("ipv4:127.0.0.1:")
    assert (entry["event"], entry["decision"], entry["rule"]) == ("end", "denied", None)
    assert (entry["method"], entry["code"]) == ("push", "PERMISSION_DENIED")
    assert entry["reason"] == "ACCESS_DENIED"


def test_denied_calls_write_few_bounded_lines(start_daemon: StartDaemon, file: Path) -> None:
    daemon = start_daemon("--memory", "--audit", str(file), config={"policy": []})
    store = kekd.StorageConfig.disk("/" + "é" * 2000)
    with kekd.Client(daemon.address) as client:
        for _ in range(150):
            with pytest.raises(kekd.PermissionDeniedError):
                list(client.get_many_index_kms(store, [f"{number}" for number in range(100)]))
    assert daemon.stop() == 0  # writes the pending counts
    *single, rest = recorded(file)
    assert len(single) == 100
    assert {entry["event"] for entry in single} == {"end"}
    assert (rest["event"], rest["count"], rest["reason"]) == ("denials", 50, "STORE_NOT_CONFIGURED")
    assert file.stat().st_size < 101 * 4096


def test_denied_batch_has_one_line(start_daemon: StartDaemon, file: Path) -> None:
    daemon = start_daemon("--memory", "--audit", str(file), config={"policy": [READ_ONLY]})
    names = [f"other-{number}" for number in range(1000)]
    with kekd.Client(daemon.address) as client:
        list(client.get_many_index_kms(None, names))
        list(client.get_many_index_kms(None, [*names[1:], "mine"]))
    assert daemon.stop() == 0
    whole, *part = recorded(file)
    assert (whole["index"], whole["count"], whole["reason"]) == ("other-0", 1000, "ACCESS_DENIED")
    assert len(part) <= 99 + 1 + 1
    assert [entry["decision"] for entry in part].count("allowed") == 1
    assert sum(entry.get("count", 1) for entry in part) == 1000
    assert part[-1]["event"] == "denials"


def test_batch_has_an_audit_entry_for_each_index(start_daemon: StartDaemon, file: Path) -> None:
    rules = [READ_ONLY, READ_ONLY | {"name": "writer", "methods": "push"}]
    daemon = start_daemon("--memory", "--audit", str(file), config={"policy": rules})
    with kekd.Client(daemon.address) as client:
        list(client.push_many_index_kms(None, [(name, BLOB, None) for name in ("mine", "x")]))
        list(client.get_many_index_kms(None, ["x", "mine"]))
        list(client.scan_index_kms())
    eventually(lambda: len(ends(file)) == 6)
    outcomes = [
        (entry["method"], entry["index"], entry["code"], entry["rule"]) for entry in ends(file)
    ]
    assert outcomes == [
        ("push", "mine", "OK", "writer"),
        ("push", "x", "PERMISSION_DENIED", None),
        ("read", "x", "PERMISSION_DENIED", None),
        ("read", "mine", "OK", "reader"),
        ("list", "*", "OK", "reader"),
        ("read", "mine", "OK", "reader"),
    ]


def test_batch_is_recorded_with_the_etags_of_each_index(daemon: Daemon, file: Path) -> None:
    other = kekd.KMSBlob(provider="none")
    pushes = [("new", other, None), ("i", other, None), ("i-2", other, "stale")]
    with kekd.Client(daemon.address) as client:
        created = client.create_index_kms(None, "i", BLOB)
        pushed = dict(client.push_many_index_kms(None, pushes))
        list(client.get_many_index_kms(None, ["i", "never"]))
    eventually(lambda: len(ends(file)) == 6)
    outcomes = [
        (entry["index"], entry["code"], entry["etag_before"], entry["etag_after"])
        for entry in ends(file)
    ]
    assert outcomes[1:] == [
        ("new", "OK", None, pushed["new"]),
        ("i", "OK", created, pushed["i"]),
        ("i-2", "FAILED_PRECONDITION", None, None),
        ("i", "OK", None, pushed["i"]),
        ("never", "NOT_FOUND", None, None),
    ]


def test_watch_is_recorded_when_it_begins_and_when_it_ends(daemon: Daemon, file: Path) -> None:
    with kekd.Client(daemon.address) as client:
        events = client.watch_index_kms(None, "p")
        next(events)
        eventually(lambda: recorded(file))
        assert [(entry["event"], entry["index"]) for entry in recorded(file)] == [("begin", "p*")]
        events.close()
        eventually(lambda: ends(file, code="CANCELLED"))


def test_no_entry_has_a_wrapped_key(daemon: Daemon, file: Path) -> None:
    canary = kekd.KMSBlob(provider="aws-kms", key_id="k", wrapped_kek=b"canary" * 5)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", canary)
        for call in CALLS.values():
            try:
                call(client, None)
            except kekd.EnvelopeExistsError:
                continue
    assert "canary" not in file.read_text()
    assert "Y2FuYXJ5" not in file.read_text()


def test_file_is_private(daemon: Daemon, file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600


def test_names_cannot_forge_an_entry(daemon: Daemon, file: Path) -> None:
    name = 'x"}\n{"event": "end'
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, name, BLOB)
    eventually(lambda: len(recorded(file)) == 2)
    assert [entry["index"] for entry in recorded(file)] == [name, name]


@pytest.mark.parametrize("hangup", [False, True])
def test_moved_file_is_replaced_by_a_new_one(
    daemon: Daemon, file: Path, tmp_path: Path, hangup: bool
) -> None:
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "before", BLOB)
        eventually(lambda: ends(file))
        moved = file.rename(tmp_path / "audit.1")
        if hangup:
            daemon.process.send_signal(signal.SIGHUP)
        eventually(file.exists)  # without a call in between
        client.create_index_kms(None, "after", BLOB)
    assert [entry["index"] for entry in recorded(moved)] == ["before", "before"]
    eventually(lambda: file.exists() and len(recorded(file)) == 2)
    assert file.stat().st_mode & 0o777 == 0o600


FULL = "/dev/full"
"""A device that is always full: see full(4)."""


def test_full_audit_disk_fails_writes_and_not_reads(start_daemon: StartDaemon, file: Path) -> None:
    file.symlink_to(FULL)
    daemon = start_daemon("--memory", "--audit", str(file))
    with kekd.Client(daemon.address, timeout=PATIENCE) as client:
        with pytest.raises(kekd.AuditUnavailableError, match="audit"):
            client.push_index_kms(None, "i", BLOB)
        with pytest.raises(kekd.EnvelopeNotFoundError):
            client.get_index_kms(None, "i")
        assert list(client.list_index_kms()) == []
    assert daemon.stop() == 0
    assert daemon.read_log().count("the audit log cannot be written") == 1
    assert "No space left" in daemon.read_log()


@pytest.mark.parametrize(
    ("on_failure", "reads", "writes"), [("deny", False, False), ("allow", True, True)]
)
def test_on_failure_overrides_reads_and_writes(
    start_daemon: StartDaemon, on_failure: str, reads: bool, writes: bool
) -> None:
    config = {"audit": {"file": FULL, "on_failure": on_failure}}
    daemon = start_daemon("--memory", config=config)
    with kekd.Client(daemon.address, timeout=PATIENCE) as client:
        for happens, call in ((writes, CALLS["push"]), (reads, CALLS["list"])):
            if happens:
                call(client, None)
            else:
                with pytest.raises(kekd.AuditUnavailableError):
                    call(client, None)


def test_writes_succeed_once_there_is_space_again(start_daemon: StartDaemon, file: Path) -> None:
    file.symlink_to(FULL)
    daemon = start_daemon("--memory", "--audit", str(file))
    with kekd.Client(daemon.address, timeout=PATIENCE) as client:
        with pytest.raises(kekd.EnvelopeError):
            client.push_index_kms(None, "i", BLOB)
        file.unlink()
        client.push_index_kms(None, "i", BLOB)
    eventually(lambda: "the audit log is written again" in daemon.read_log())
    eventually(lambda: ends(file, code="OK"))


def test_refused_create_is_no_earlier_attempt_of_the_next(
    start_daemon: StartDaemon, file: Path
) -> None:
    """Otherwise, two creators of equal envelopes would both succeed."""
    file.symlink_to(FULL)
    daemon = start_daemon("--memory", "--audit", str(file))
    with kekd.Client(daemon.address) as client, ThreadPoolExecutor(1) as thread:
        refused = thread.submit(client.create_index_kms, None, "i", BLOB)
        eventually(lambda: "the audit log cannot be written" in daemon.read_log())
        file.unlink()  # the next line creates another
        client.push_index_kms(None, "i", BLOB)  # another caller's write
        with pytest.raises(kekd.EnvelopeError):
            refused.result()


def test_unread_pipe_blocks_writes_but_not_reads(start_daemon: StartDaemon, file: Path) -> None:
    os.mkfifo(file)
    reader = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    daemon = start_daemon("--memory", "--audit", str(file))
    with kekd.Client(daemon.address, timeout=PATIENCE) as client:
        for _ in range(2000):
            list(client.list_index_kms())
        with pytest.raises(kekd.AuditUnavailableError, match="audit"):
            client.push_index_kms(None, "i", BLOB)
        with pytest.raises(kekd.AuditUnavailableError, match="audit"):
            client.push_index_kms(None, "i", BLOB)
        for _ in range(3):
            assert list(client.list_index_kms()) == []
            with pytest.raises(kekd.AuditUnavailableError, match="audit"):
                client.push_index_kms(None, "i", BLOB)
        eventually(lambda: "the audit log cannot be written" in daemon.read_log())
        assert daemon.read_log().count("the audit log cannot be written") == 1
    os.close(reader)


def test_lines_beyond_the_buffer_are_reported(start_daemon: StartDaemon, file: Path) -> None:
    os.mkfifo(file)
    reader = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    daemon = start_daemon("--memory", "--audit", str(file))
    names = [f"{number:0200}" for number in range(1000)]
    with kekd.Client(daemon.address, timeout=PATIENCE) as client:
        for _ in range(15):
            list(client.get_many_index_kms(None, names))
    eventually(lambda: daemon.read_log().count("the buffer is full, and lines are lost") == 1)
    os.close(reader)


def test_invalid_prefix_is_not_recorded(start_daemon: StartDaemon, file: Path) -> None:
    daemon = start_daemon("--memory", "--audit", str(file))
    with kekd.Client(daemon.address) as client, pytest.raises(kekd.InvalidArgumentError):
        list(client.list_index_kms(None, "é" * 15_000))
    assert file.stat().st_size == 0


def test_standard_output_has_entries_and_nothing_else(tmp_path: Path) -> None:
    out, socket = tmp_path / "out", tmp_path / "run" / "kekd.sock"
    command = [str(BIN / "kekd"), "--listen", f"unix:{socket}", "--memory", "--audit", "-"]
    with (
        out.open("w") as stdout,
        subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL) as process,
    ):
        with kekd.Client(f"unix:{socket}") as client:
            client.wait(PATIENCE)
            client.create_index_kms(None, "i", BLOB)
        process.terminate()
    assert [entry["event"] for entry in recorded(out)] == ["begin", "end"]


def test_workers_share_a_file(start_daemon: StartDaemon, file: Path) -> None:
    port = f"127.0.0.1:{free_port()}"
    disk = str(file.with_name("keystore"))
    start_daemon("--listen", port, "--disk", disk, "--workers", "2", "--audit", str(file))
    for _ in range(20):
        with kekd.Client(port) as client:
            client.push_index_kms(None, "i", BLOB)
    eventually(lambda: len(recorded(file)) == 40)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--audit", "/nowhere/audit"], "audit /nowhere/audit: cannot be written: No such file"),
        (["--audit", ""], "audit.file"),
        (["--audit", "-", "--workers", "2"], "workers have no standard output"),
    ],
)
def test_unusable_output_is_reported_at_the_start(
    tmp_path: Path, flags: list[str], problem: str
) -> None:
    listen = ["--listen", f"unix:{tmp_path}/run/kekd.sock", "--listen", f"127.0.0.1:{free_port()}"]
    assert problem in refusal(BIN / "kekd", *listen, "--disk", str(tmp_path / "k"), *flags)


def test_closed_standard_output_is_reported_at_the_start(tmp_path: Path) -> None:
    kekd_of = f"{BIN}/kekd --listen unix:{tmp_path}/run/kekd.sock --memory --audit - >&-"
    assert "audit -: cannot be written: Bad file" in refusal("bash", "-c", kekd_of)


def test_entries_of_a_shutdown_are_written(start_daemon: StartDaemon, file: Path) -> None:
    daemon = start_daemon("--memory", "--audit", str(file))
    with kekd.Client(daemon.address) as client:
        for number in range(200):
            client.push_index_kms(None, f"{number}", BLOB)
    assert daemon.stop() == 0
    assert len(recorded(file)) == 400
