"""kekctl export and import: an incomplete backup is refused, and an import overwrites nothing."""

import hashlib
import json
import os
import pty
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import kekd
from kekd._cli.backup import json_lines
from kekd._cli.backup.restore import restore as restored
from kekd._cli.output.json_format import EnvelopeJSON
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, clean_environment
from tests.fixtures.kekctl import kekctl
from tests.fixtures.s3 import CREDENTIALS, Bucket
from tests.patience import PATIENCE, eventually

CANARY = b"canary: a wrapped KEK that nobody may see"
NAMES = ["a/é", "b", "c", "red \x1b[31m", "x" * 200]
NOTHING = {"created": 0, "unchanged": 0, "overwritten": 0, "refused": 0, "failed": 0}
DRY_NOTHING = dict.fromkeys(
    ["would create", "unchanged", "would overwrite", "refused", "failed"], 0
)
CREATED_BEFORE_HALT = 100


def envelope(number: int) -> kekd.KMSBlob:
    blob = kekd.KMSBlob("prod", "aws-kms", "alias/prod", "us-east-1", CANARY, 2**32 - 1, number)
    blob.key_arn, blob.binding = "arn:aws:kms:::key/1", "binding"
    return blob


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Daemon]]:
    """Yields two daemons, each with a disk store beside its socket."""
    folders = [tmp_path_factory.mktemp(name) for name in ("daemon", "other")]
    daemons = [Daemon(folder, "--disk", str(folder / "keystore")) for folder in folders]
    for daemon in daemons:
        daemon.wait()
    yield daemons[0], daemons[1]
    for daemon in daemons:
        daemon.kill()


@pytest.fixture
def daemon(started: tuple[Daemon, Daemon]) -> Iterator[Daemon]:
    yield started[0]
    empty(started[0])


@pytest.fixture
def other(started: tuple[Daemon, Daemon]) -> Iterator[Daemon]:
    yield started[1]
    empty(started[1])


def records_folder(daemon: Daemon) -> Path:
    return daemon.socket.parent / "keystore/_catalog/config"


def empty(daemon: Daemon) -> None:
    for record in records_folder(daemon).iterdir():
        record.unlink()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[kekd.Client]:
    with kekd.Client(daemon.address) as client:
        yield client


@pytest.fixture
def backup(daemon: Daemon, client: kekd.Client, tmp_path: Path) -> Path:
    """A backup of five envelopes."""
    for number, name in enumerate(NAMES):
        client.create_index_kms(None, name, envelope(number))
    file = tmp_path / "backup"
    export(daemon, "--file", file)
    return file


def test_export_without_a_visible_default_store_requires_a_store(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    rule = {"name": "r", "identities": "*", "methods": "*", "stores": "memory"}
    flags = ("--disk", str(tmp_path / "keystore"), "--memory")
    daemon = start_daemon(*flags, config={"policy": [rule]})
    assert "choose one with --store" in export(daemon, code=2).stderr
    assert '"store": "memory"' in export(daemon, "--store", "memory").stdout


def export(daemon: Daemon, *arguments: object, code: int = 0) -> Result:
    return kekctl("--address", daemon.address, "export", *arguments, code=code)


def restore(daemon: Daemon, file: Path, *arguments: str, code: int = 0) -> Result:
    return kekctl("--address", daemon.address, "import", file, *arguments, code=code)


def counts(done: Result) -> dict[str, int]:
    rows = (line.rsplit(maxsplit=1) for line in done.stdout.splitlines() if ":" not in line)
    return {name: int(count) for name, count in rows}


def records(daemon: Daemon) -> dict[str, bytes]:
    return {record.name: record.read_bytes() for record in records_folder(daemon).iterdir()}


# Round trips


def test_record_moved_to_s3_and_back_is_identical(
    daemon: Daemon,
    other: Daemon,
    backup: Path,
    start_daemon: StartDaemon,
    bucket: Bucket,
    tmp_path: Path,
) -> None:
    s3 = start_daemon(*bucket.flags, name="s3", env=CREDENTIALS)
    assert counts(restore(s3, backup)) == NOTHING | {"created": len(NAMES)}
    stored, envelopes = {}, "_catalog/config/"
    for item in bucket.s3.list_objects_v2(Bucket=bucket.name, Prefix=envelopes)["Contents"]:
        body = bucket.s3.get_object(Bucket=bucket.name, Key=item["Key"])["Body"].read()
        stored[item["Key"].removeprefix(envelopes)] = body
    assert stored == records(daemon)
    (tmp_path / "from_s3").write_text(export(s3).stdout)
    restore(other, tmp_path / "from_s3")
    assert records(other) == stored


def test_lines_are_as_documented(daemon: Daemon, backup: Path) -> None:
    text = backup.read_text()
    header, *envelopes, trailer = (json.loads(line) for line in text.splitlines())
    assert header.pop("time")
    assert header == {
        "format": "kekd-backup",
        "version": 1,
        "store": f"disk:{daemon.socket.parent}/keystore",
        "prefix": "",
    }
    for line in envelopes:
        checksum = line.pop("sha256")
        shown = kekctl("--address", daemon.address, "get", "-o", "json", "--", line["index_name"])
        assert line == json.loads(shown.stdout)
        canonical = json.dumps(line, sort_keys=True, separators=(",", ":"))
        assert checksum == hashlib.sha256(canonical.encode()).hexdigest()
    before = "".join(text.splitlines(keepends=True)[:-1])
    assert trailer == {"count": 5, "sha256": hashlib.sha256(before.encode()).hexdigest()}


def test_empty_store_has_a_backup(daemon: Daemon, other: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    export(daemon, "--file", file)
    assert counts(restore(other, file)) == NOTHING


def test_export_is_limited_to_a_prefix_and_a_store(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon("--disk", str(tmp_path / "two"), "--memory", name="two")
    memory = kekd.StorageConfig.memory()
    with kekd.Client(daemon.address) as client:
        for name in ("a/1", "a/2", "b"):
            client.create_index_kms(memory, name, envelope(1))
    header, *lines = export(daemon, "--prefix", "a/", "--store", "memory").stdout.splitlines()
    assert (json.loads(header)["store"], json.loads(header)["prefix"]) == ("memory", "a/")
    assert [json.loads(line)["index_name"] for line in lines[:-1]] == ["a/1", "a/2"]


# Exporting


def test_file_is_private(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.touch(mode=0o644)
    export(daemon, "--file", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_wrapped_key_is_shown_elsewhere(daemon: Daemon, other: Daemon, backup: Path) -> None:
    done = [export(daemon, "--file", backup), restore(other, backup), restore(other, backup)]
    said = "".join(run.stdout + run.stderr for run in done)
    assert json.loads(backup.read_text().splitlines()[1])["blob"]["wrapped_kek"] not in said
    assert CANARY.decode() not in said


def test_export_to_a_terminal_is_refused(daemon: Daemon, client: kekd.Client) -> None:
    client.create_index_kms(None, "i", envelope(1))
    master, slave = pty.openpty()
    command = [str(BIN / "kekctl"), "--address", daemon.address, "export"]
    done = subprocess.run(
        command, env=clean_environment(), stdout=slave, stderr=subprocess.PIPE, check=False
    )
    os.close(slave)
    os.close(master)
    assert (done.returncode, b"give --file" in done.stderr) == (2, True)


def test_corrupt_record_is_reported_and_the_rest_exported(
    daemon: Daemon, client: kekd.Client, other: Daemon, tmp_path: Path
) -> None:
    for name in ("a", "bad", "c"):
        client.create_index_kms(None, name, envelope(1))
    (records_folder(daemon) / "bad.kms.cat").write_bytes(CANARY)
    file = tmp_path / "backup"
    done = export(daemon, "--file", file, code=1)
    (line,) = done.stderr.splitlines()
    assert line.startswith("kekctl: skipped: the stored envelope of index 'bad' is corrupt")
    assert counts(restore(other, file))["created"] == 2


def test_failed_export_keeps_the_previous_one(daemon: Daemon, backup: Path, tmp_path: Path) -> None:
    before = backup.read_bytes()
    keystore, moved = daemon.socket.parent / "keystore", daemon.socket.parent / "moved"
    keystore.rename(moved)
    export(daemon, "--file", backup, code=9)
    moved.rename(keystore)
    assert backup.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if "backup" in path.name) == ["backup"]


@pytest.mark.parametrize(("path", "code"), [("/dev/null", 2), ("/nowhere/backup", 1)])
def test_unwritable_file_is_reported(daemon: Daemon, path: str, code: int) -> None:
    assert path in export(daemon, "--file", path, code=code).stderr


# Incomplete backups


def changed(line: str, **fields: Any) -> str:
    return json.dumps(json.loads(line) | fields)


Damage = Callable[[list[str]], list[str]]
DAMAGES: dict[str, tuple[Damage, list[str]]] = {
    "empty": (lambda _: [], ["the last line is missing"]),
    "cut off": (lambda lines: lines[:-1], ["the last line is missing"]),
    "cut off in a line": (lambda lines: [*lines[:-2], lines[-2][:40]], ["line 6: not an envelope"]),
    "something else": (lambda _: ['{"a": 1}', "x", "y"], ["line 1: not a backup"]),
    "a newer one": (
        lambda lines: [changed(lines[0], version=3), *lines[1:]],
        ["line 1: the backup is from a newer"],
    ),
    "one is missing": (
        lambda lines: lines[:2] + lines[3:],
        ["line 6: the last line counts 5 lines, but there are 4"],
    ),
    "one is twice": (
        lambda lines: [*lines[:3], *lines[2:]],
        ["line 4: duplicate index 'b'", "line 8: the last line counts 5"],
    ),
    "moved": (
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        ["line 7: checksum mismatch: a line was changed or moved"],
    ),
    "two files": (lambda lines: lines + lines, ["line 8: line after the end", *["line"] * 6]),
    "changed": (
        lambda lines: [lines[0], changed(lines[1], index_name="b2"), *lines[2:]],
        ["line 2: checksum mismatch: the line was", "line 7: checksum"],
    ),
    "many": (
        lambda lines: [lines[0], "{", lines[2], changed(lines[3], etag="x"), "[]", *lines[5:]],
        ["line 2: not an", "line 4: checksum", "line 5: not an", "line 7: checksum"],
    ),
}


@pytest.mark.parametrize(("damage", "problems"), DAMAGES.values(), ids=DAMAGES)
def test_incomplete_file_is_refused_before_anything_is_stored(
    tmp_path: Path, damage: Damage, problems: list[str]
) -> None:
    envelopes = (EnvelopeJSON(name, envelope(number)) for number, name in enumerate(NAMES))
    whole = [line.rstrip("\n") for line in json_lines.lines("memory", "", envelopes)]
    file = tmp_path / "backup"
    file.write_text("".join(f"{line}\n" for line in damage(whole)))
    # Without a daemon, a call would fail with another exit code.
    refused = kekctl("--address", f"unix:{tmp_path}/nobody", "import", file, "--overwrite", code=2)
    reported = refused.stderr.splitlines()
    assert len(reported) == len(problems), reported
    for line, problem in zip(reported, problems, strict=True):
        assert line.startswith(f"kekctl: {problem}")
    assert refused.stdout == ""


# Restoring


def test_one_index_of_a_backup_is_restored(
    daemon: Daemon, client: kekd.Client, backup: Path
) -> None:
    for name in ("b", "c"):
        client.push_index_kms(None, name, envelope(9))
    done = restore(daemon, backup, "--index", "b", "--overwrite")
    assert counts(done) == NOTHING | {"overwritten": 1}
    found = [client.get_index_kms(None, name).created_at for name in ("b", "c")]
    assert found == [1, 9]


def test_corrupt_record_is_restored_from_a_backup(
    daemon: Daemon, client: kekd.Client, backup: Path
) -> None:
    (records_folder(daemon) / "b.kms.cat").write_bytes(CANARY)
    restore(daemon, backup, "--index", "b", "--overwrite")
    assert client.get_index_kms(None, "b") == envelope(1)


def test_index_missing_from_the_backup_is_refused_before_anything_is_stored(
    other: Daemon, backup: Path
) -> None:
    refused = restore(other, backup, "--index", "b", "--index", "nowhere", code=2)
    assert refused.stderr == "kekctl: the backup has no index 'nowhere'; correct --index\n"
    with kekd.Client(other.address) as client:
        assert list(client.list_index_kms()) == []


@pytest.mark.parametrize("command", ["push", "create"])
def test_line_of_a_backup_is_an_envelope(other: Daemon, backup: Path, command: str) -> None:
    line = backup.read_text().splitlines()[2]
    kekctl("--address", other.address, command, "-f", "-", stdin=line)
    with kekd.Client(other.address) as client:
        assert client.get_index_kms(None, "b") == envelope(1)


def test_changed_line_of_a_backup_is_refused(other: Daemon, backup: Path) -> None:
    line = changed(backup.read_text().splitlines()[2], index_name="elsewhere")
    refused = kekctl("--address", other.address, "push", "-f", "-", stdin=line, code=2)
    assert "checksum mismatch: the line was changed" in refused.stderr


def test_different_envelope_is_refused_without_overwrite(
    daemon: Daemon, client: kekd.Client, backup: Path
) -> None:
    client.push_index_kms(None, "b", envelope(99))
    client.delete_index_kms(None, "c")
    refused = restore(daemon, backup, code=1)
    assert counts(refused) == NOTHING | {"created": 1, "unchanged": 3, "refused": 1}
    assert refused.stderr == (
        "kekctl: refused: index 'b': the stored envelope differs; give --overwrite to replace it\n"
    )
    assert client.get_index_kms(None, "b") == envelope(99)
    done = restore(daemon, backup, "--overwrite")
    assert counts(done) == NOTHING | {"unchanged": 4, "overwritten": 1}
    assert client.get_index_kms(None, "b") == envelope(1)


def test_dry_run_stores_nothing(daemon: Daemon, client: kekd.Client, backup: Path) -> None:
    client.push_index_kms(None, "b", envelope(99))
    client.delete_index_kms(None, "c")
    done = restore(daemon, backup, "--overwrite", "--dry-run")
    assert done.stdout.startswith("dry run: nothing was stored\n")
    assert counts(done) == DRY_NOTHING | {
        "would create": 1,
        "unchanged": 3,
        "would overwrite": 1,
    }
    assert client.get_index_kms(None, "b") == envelope(99)
    assert "c" not in client.list_index_kms()


def test_corrupt_record_is_replaced_only_with_overwrite(
    daemon: Daemon, client: kekd.Client, backup: Path
) -> None:
    (records_folder(daemon) / "b.kms.cat").write_bytes(b"damaged")
    assert counts(restore(daemon, backup, code=1))["refused"] == 1
    assert counts(restore(daemon, backup, "--overwrite"))["overwritten"] == 1
    assert client.get_index_kms(None, "b") == envelope(1)


def test_refused_envelope_does_not_stop_the_others(other: Daemon, backup: Path) -> None:
    header, *lines, _ = backup.read_text().splitlines()
    bad = json.loads(lines[1])
    del bad["sha256"]
    bad["blob"]["provider"] = "vault"
    bad["sha256"] = hashlib.sha256(
        json.dumps(bad, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()
    text = "".join(f"{line}\n" for line in [header, lines[0], json.dumps(bad), *lines[2:]])
    trailer = {"count": 5, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    backup.write_text(text + json.dumps(trailer))
    done = restore(other, backup, code=1)
    assert counts(done) == NOTHING | {"created": 4, "failed": 1}
    assert done.stderr.startswith("kekctl: failed: index 'b': invalid envelope: provider")


@pytest.fixture
def large_backup(daemon: Daemon, client: kekd.Client, tmp_path: Path) -> Path:
    """A backup of 1,000 envelopes."""
    pushes = ((f"{number:04}", envelope(number), None) for number in range(1000))
    assert all(isinstance(etag, str) for _, etag in client.push_many_index_kms(None, pushes))
    file = tmp_path / "backup"
    export(daemon, "--file", file)
    return file


HALTING_KEKCTL = (
    sys.executable,
    "-c",
    f"""
import itertools, signal, threading
import kekd
from kekd._cli import main

create, creates, go_on = kekd.Client.create_index_kms, itertools.count(), threading.Event()


def create_or_halt(*arguments):
    if next(creates) < {CREATED_BEFORE_HALT}:
        return create(*arguments, timeout={PATIENCE})
    go_on.wait()
    return create(*arguments)


def interrupt(number, frame):
    go_on.set()
    signal.default_int_handler(number, frame)


kekd.Client.create_index_kms = create_or_halt
signal.signal(signal.SIGINT, interrupt)
signal.signal(signal.SIGUSR1, lambda *_: go_on.set())
main()
""",
)


@contextmanager
def halted_import(daemon: Daemon, backup: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Runs an import that has created a part of the envelopes. The others wait for a signal."""
    stored = records_folder(daemon)
    with subprocess.Popen(
        [*HALTING_KEKCTL, "--address", daemon.address, *options, "import", str(backup)],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        eventually(lambda: len(list(stored.iterdir())) == CREATED_BEFORE_HALT)
        yield process


def test_import_after_a_kill_restores_the_rest(
    daemon: Daemon, other: Daemon, large_backup: Path
) -> None:
    with halted_import(other, large_backup) as process:
        process.kill()
    done = counts(restore(other, large_backup))
    rest = 1000 - CREATED_BEFORE_HALT
    assert done == NOTHING | {"created": rest, "unchanged": CREATED_BEFORE_HALT}
    assert records(other) == records(daemon)


def test_import_reports_its_progress_when_the_daemon_is_lost(
    start_daemon: StartDaemon, large_backup: Path, tmp_path: Path
) -> None:
    other = start_daemon("--disk", str(tmp_path / "other" / "keystore"), name="other")
    with halted_import(other, large_backup, "--timeout", "1") as process:
        other.kill()
        process.send_signal(signal.SIGUSR1)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 6
    assert f"kekd at {other.address}" in errors
    assert output.splitlines()[0].startswith("created")


def test_import_reports_its_progress_at_ctrl_c(other: Daemon, large_backup: Path) -> None:
    with halted_import(other, large_backup) as process:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, "")
    assert output.splitlines()[0].startswith("created")


# Races


class OutdatedClient(kekd.Client):
    """A client that reads a store before another client writes to it."""

    before: kekd.KMSBlob | None = None

    def get_many_index_kms(
        self,
        config_location: kekd.StorageConfig | None,  # noqa: ARG002
        index_names: Iterable[str],
        *,
        timeout: float | None = None,  # noqa: ARG002
    ) -> Iterator[Any]:
        for name in index_names:
            yield name, self.before or kekd.EnvelopeNotFoundError("none")


@pytest.mark.parametrize("overwrite", [False, True])
def test_rivals_create_is_never_replaced(
    daemon: Daemon, client: kekd.Client, overwrite: bool
) -> None:
    client.create_index_kms(None, "i", envelope(1))
    with OutdatedClient(daemon.address) as outdated:
        documents = [EnvelopeJSON("i", envelope(2))]
        (done,) = restored(outdated, None, documents, overwrite=overwrite, dry_run=False)
    assert done.outcome == "refused"
    assert client.get_index_kms(None, "i") == envelope(1)


def test_rivals_push_is_not_replaced(daemon: Daemon, client: kekd.Client) -> None:
    client.create_index_kms(None, "i", envelope(1))
    with OutdatedClient(daemon.address) as outdated:
        outdated.before = client.get_index_kms(None, "i")
        client.push_index_kms(None, "i", envelope(3))
        documents = [EnvelopeJSON("i", envelope(2))]
        (done,) = restored(outdated, None, documents, overwrite=True, dry_run=False)
    assert done.outcome == "failed"
    assert client.get_index_kms(None, "i") == envelope(3)


# Histories


@pytest.fixture
def versions(start_daemon: StartDaemon) -> Iterator[kekd.Client]:
    """A client of a daemon with an envelope that was pushed twice, and a deleted one."""
    with kekd.Client(start_daemon("--memory").address) as client:
        for number in range(2):
            client.push_index_kms(None, "history/kept", envelope(number))
        client.create_index_kms(None, "history/gone", envelope(2))
        client.delete_index_kms(None, "history/gone")
        yield client


@pytest.fixture
def with_history(versions: kekd.Client, tmp_path: Path) -> Path:
    """A backup of that daemon."""
    file = tmp_path / "with-history"
    kekctl("--address", versions.address, "export", "--with-history", "--file", file)
    return file


def history_lines(file: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, file.read_text().splitlines())
    return [line for line in lines if "version_id" in line]


def test_export_with_history_has_each_version(versions: kekd.Client, with_history: Path) -> None:
    header, *_ = with_history.read_text().splitlines()
    assert json.loads(header)["version"] == 2
    expected = [
        (name, version)
        for name in ("history/gone", "history/kept")
        for version in versions.list_versions_index_kms(None, name, full=True)
    ]
    lines = history_lines(with_history)
    for line, (name, version) in zip(lines, expected, strict=True):
        found = (line["index_name"], line["version_id"], line["event"], line["caller"])
        assert found == (name, version.version_id, version.event, version.caller)
        assert line["time"] == version.time.isoformat().replace("+00:00", "Z")
        assert line.get("etag", "") == version.etag
        assert ("blob" in line) is bool(version.blob)


@pytest.fixture
def target(start_daemon: StartDaemon, tmp_path: Path) -> Daemon:
    """A daemon with an empty disk store."""
    return start_daemon("--disk", str(tmp_path / "target"), name="target")


def history_of(address: str, name: str) -> list[dict[str, Any]]:
    """Returns the output of `kekctl history`, without the ids, which each store makes itself."""
    shown = kekctl("--address", address, "history", name, "--output", "json").stdout
    lines = [json.loads(line) for line in shown.splitlines()]
    return [{key: value for key, value in line.items() if key != "version_id"} for line in lines]


def envelopes_of(client: kekd.Client, name: str) -> list[kekd.KMSBlob | None]:
    return [version.blob for version in client.list_versions_index_kms(None, name, full=True)]


def versions_line(done: Result) -> str:
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("versions: "))
    return line


def test_import_restores_the_history(
    versions: kekd.Client, target: Daemon, with_history: Path
) -> None:
    done = restore(target, with_history)
    assert counts(done) == NOTHING | {"created": 1}
    assert versions_line(done) == "versions: 4 added, 0 unchanged, 0 not imported"
    gone, kept = "history/gone", "history/kept"
    assert history_of(target.address, gone) == history_of(versions.address, gone)
    first, *others = history_of(target.address, kept)
    assert others == history_of(versions.address, kept)
    assert first["event"] == "created"
    with kekd.Client(target.address) as client:
        assert envelopes_of(client, gone) == envelopes_of(versions, gone)
        assert envelopes_of(client, kept)[1:] == envelopes_of(versions, kept)
        client.undelete_index_kms(None, gone)
        assert client.get_index_kms(None, gone) == envelope(2)


def test_repeated_import_of_a_history_adds_nothing(target: Daemon, with_history: Path) -> None:
    restore(target, with_history)
    before = history_of(target.address, "history/kept")
    done = restore(target, with_history)
    assert versions_line(done) == "versions: 0 added, 4 unchanged, 0 not imported"
    assert history_of(target.address, "history/kept") == before


def test_import_into_the_store_of_the_backup_keeps_its_history(
    versions: kekd.Client, with_history: Path
) -> None:
    before = history_of(versions.address, "history/kept")
    versions.delete_index_kms(None, "history/kept")
    done = kekctl("--address", versions.address, "import", with_history)
    assert versions_line(done) == "versions: 0 added, 4 unchanged, 0 not imported"
    created, deleted, *others = history_of(versions.address, "history/kept")
    assert (created["event"], deleted["event"], others) == ("created", "deleted", before)


def test_deleted_index_of_a_backup_is_restored_alone(target: Daemon, with_history: Path) -> None:
    done = restore(target, with_history, "--index", "history/gone")
    assert counts(done) == NOTHING
    assert versions_line(done) == "versions: 2 added, 0 unchanged, 0 not imported"
    assert not history_of(target.address, "history/kept")


def test_history_of_a_refused_envelope_is_not_imported(target: Daemon, with_history: Path) -> None:
    with kekd.Client(target.address) as client:
        client.create_index_kms(None, "history/kept", envelope(9))
    done = restore(target, with_history, code=1)
    assert versions_line(done) == "versions: 2 added, 0 unchanged, 2 not imported"
    assert len(history_of(target.address, "history/kept")) == 1


def test_history_that_overlaps_with_another_one_is_not_imported(
    versions: kekd.Client, with_history: Path, target: Daemon, tmp_path: Path
) -> None:
    restore(target, with_history)
    versions.push_index_kms(None, "history/kept", envelope(3))
    later = tmp_path / "later"
    kekctl("--address", versions.address, "export", "--with-history", "--file", later)
    done = restore(target, later, "--overwrite", code=1)
    assert "kekctl: failed: versions of index 'history/kept' not imported: one is" in done.stderr
    assert versions_line(done) == "versions: 0 added, 2 unchanged, 3 not imported"


def test_import_without_the_method_stores_the_envelopes_and_says_how_to_allow_it(
    start_daemon: StartDaemon, with_history: Path
) -> None:
    rule = {"name": "r", "identities": "*", "methods": "*"}
    daemon = start_daemon("--memory", config={"policy": [rule]}, name="without")
    done = restore(daemon, with_history, code=1)
    assert counts(done) == NOTHING | {"created": 1}
    assert versions_line(done) == "versions: 0 added, 0 unchanged, 4 not imported"
    denied, advice = done.stderr.splitlines()
    assert "cannot import-history index 'history/gone'" in denied
    assert "name the method 'import-history' in a rule" in advice
    done = restore(daemon, with_history, "--without-history")
    assert counts(done) == NOTHING | {"unchanged": 1}
    assert done.stderr == ""
    allowed = rule | {"methods": ["*", "import-history"]}
    daemon = start_daemon("--memory", config={"policy": [allowed]}, name="with")
    assert "4 added" in versions_line(restore(daemon, with_history))


def test_import_into_a_store_without_a_history_stores_the_envelopes(
    start_daemon: StartDaemon, with_history: Path
) -> None:
    daemon = start_daemon("--memory", "--history-versions", "0", name="off")
    done = restore(daemon, with_history, code=1)
    assert counts(done) == NOTHING | {"created": 1}
    assert versions_line(done) == "versions: 0 added, 0 unchanged, 4 not imported"
    (line,) = done.stderr.splitlines()
    assert "the store keeps no history" in line


def test_dry_run_imports_no_history(target: Daemon, with_history: Path) -> None:
    done = restore(target, with_history, "--dry-run")
    assert counts(done) == DRY_NOTHING | {"would create": 1}
    assert not history_of(target.address, "history/gone")


def test_line_of_a_version_can_be_pushed(other: Daemon, with_history: Path) -> None:
    lines = with_history.read_text().splitlines()
    old = next(line for line in reversed(lines) if '"history/kept"' in line)
    kekctl("--address", other.address, "push", "-f", "-", stdin=old)
    with kekd.Client(other.address) as target:
        assert target.get_index_kms(None, "history/kept") == envelope(0)


def test_deletion_in_a_backup_cannot_be_pushed(versions: kekd.Client, with_history: Path) -> None:
    (deletion,) = (line for line in history_lines(with_history) if "blob" not in line)
    push = ("--address", versions.address, "push", "-f", "-")
    refused = kekctl(*push, stdin=json.dumps(deletion), code=2)
    assert "the line is the deletion of one" in refused.stderr


def test_damaged_version_is_refused(other: Daemon, with_history: Path) -> None:
    lines = with_history.read_text().splitlines()
    place = next(place for place, line in enumerate(lines) if "version_id" in line)
    lines[place] = changed(lines[place], caller="another")
    lines.insert(place + 2, lines[place + 1])
    with_history.write_text("".join(f"{line}\n" for line in lines))
    problems = restore(other, with_history, code=2).stderr
    assert f"line {place + 1}: checksum mismatch" in problems
    assert f"line {place + 3}: duplicate version" in problems
