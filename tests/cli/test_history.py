"""kekctl's commands for versions: history, diff, restore, undelete."""

import base64
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import islice
from typing import Any

import pytest

import kekd
from kekd import _operations as operations
from kekd_server.storage.history.retention import DEFAULT_RETENTION
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, clean_environment
from tests.fixtures.kekctl import Kekctl, json_lines
from tests.fixtures.kekctl import kekctl as run_kekctl
from tests.patience import PATIENCE

CANARY = b"canary: a wrapped KEK that nobody may see"
OLD = kekd.KMSBlob("prod", "aws-kms", "alias/prod", "eu-west-1", CANARY, 1)
NEW = kekd.KMSBlob("next", "aws-kms", "alias/next", "eu-west-1", CANARY[::-1], 2)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A shared daemon. Each test has a prefix of its own."""
    daemon = Daemon(tmp_path_factory.mktemp("kekctl"), "--memory")
    daemon.wait()
    yield daemon
    daemon.kill()


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[kekd.Client]:
    with kekd.Client(daemon.address) as client:
        yield client


@pytest.fixture(scope="module")
def kekctl(daemon: Daemon) -> Kekctl:
    return partial(run_kekctl, env={"KEKD_ADDRESS": daemon.address})


@pytest.fixture
def index(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture
def versions(client: kekd.Client, index: str) -> list[kekd.EnvelopeVersion]:
    """The versions of an index whose envelope `OLD` was replaced by `NEW`."""
    client.create_index_kms(None, index, OLD)
    client.push_index_kms(None, index, NEW)
    return list(client.list_versions_index_kms(None, index))


def test_history_is_a_table_newest_first(
    kekctl: Kekctl, index: str, versions: list[kekd.EnvelopeVersion]
) -> None:
    heading, *rows = [line.split() for line in kekctl("history", index).stdout.splitlines()]
    assert heading == ["version_id", "event", "time", "caller", "etag", "size"]
    assert [(row[0], row[1], row[4], row[5]) for row in rows] == [
        (version.version_id, version.event, version.etag, str(version.size)) for version in versions
    ]


def test_history_as_json_has_a_line_for_each_version(
    kekctl: Kekctl, client: kekd.Client, index: str, versions: list[kekd.EnvelopeVersion]
) -> None:
    client.delete_index_kms(None, index)
    deleted, *shown = json_lines(kekctl("history", index, "-o", "json"))
    assert (deleted["event"], deleted["etag"]) == ("deleted", "")
    for line, version in zip(shown, versions, strict=True):
        assert datetime.fromisoformat(line.pop("time")) == version.time
        assert line == {
            "version_id": version.version_id,
            "event": version.event,
            "caller": version.caller,
            "etag": version.etag,
            "size": version.size,
        }


def test_index_without_versions_has_an_empty_history(kekctl: Kekctl) -> None:
    done = kekctl("history", "nobody")
    assert (done.stdout, done.stderr) == ("", "kekctl: index 'nobody' has no versions\n")
    assert kekctl("history", "nobody", "-o", "json").stdout == ""


def test_get_shows_a_version(
    kekctl: Kekctl, index: str, versions: list[kekd.EnvelopeVersion]
) -> None:
    old = kekctl("get", index, "--version", versions[1].version_id, "-o", "json").stdout
    shown = json.loads(old)
    assert (shown["etag"], shown["blob"]["kms_name"]) == (versions[1].etag, "prod")
    kekctl("get", index, "--version", "none", code=3)


def test_diff_shows_the_fields_and_no_wrapped_kek(
    kekctl: Kekctl, index: str, versions: list[kekd.EnvelopeVersion]
) -> None:
    shown = kekctl("diff", index, versions[1].version_id).stdout
    digests = [sha256(blob.wrapped_kek).hexdigest()[:16] for blob in (OLD, NEW)]
    assert shown.splitlines() == [
        f"--- {index} version {versions[1].version_id}",
        f"+++ {index} now",
        "-kms_name    prod",
        "+kms_name    next",
        " provider    aws-kms",
        "-key_id      alias/prod",
        "+key_id      alias/next",
        " region      eu-west-1",
        f"-wrapped_kek {len(CANARY)} bytes, sha256 {digests[0]}...",
        f"+wrapped_kek {len(CANARY)} bytes, sha256 {digests[1]}...",
        "-version     1",
        "+version     2",
        " created_at  0",
        " key_arn",
        " binding",
    ]
    as_json = kekctl("diff", index, versions[1].version_id, "-o", "json").stdout
    for text in (shown, as_json):
        for key in (CANARY, CANARY[::-1]):
            assert base64.b64encode(key).decode() not in text
            assert key.decode() not in text
            assert key.hex() not in text


def test_diff_as_json_has_a_line_for_each_field(
    kekctl: Kekctl, index: str, versions: list[kekd.EnvelopeVersion]
) -> None:
    new, old = (version.version_id for version in versions)
    lines = {line["field"]: line for line in json_lines(kekctl("diff", index, new, old, "-ojson"))}
    assert lines["kms_name"] == {
        "field": "kms_name",
        "equal": False,
        "from": "next",
        "to": "prod",
    }
    assert lines["wrapped_kek"]["to"] == {
        "bytes": len(CANARY),
        "sha256": sha256(CANARY).hexdigest()[:16],
    }
    same = json_lines(kekctl("diff", index, new, new, "-o", "json"))
    assert all(line["equal"] for line in same)


def test_restore_stores_a_version_and_prints_its_etag(
    kekctl: Kekctl, client: kekd.Client, index: str, versions: list[kekd.EnvelopeVersion]
) -> None:
    pushed, created = versions
    command = ("restore", index, "--version", created.version_id, "--if-etag")
    kekctl(*command, created.etag, code=5)
    assert client.get_index_kms(None, index) == NEW
    etag = kekctl(*command, pushed.etag).stdout.strip()
    stored = client.get_index_kms(None, index)
    assert (stored, stored.etag) == (OLD, etag)


def test_undelete_stores_the_last_envelope_and_prints_its_etag(
    kekctl: Kekctl, client: kekd.Client, index: str
) -> None:
    etag = client.create_index_kms(None, index, OLD)
    kekctl("undelete", index, code=4)
    client.delete_index_kms(None, index)
    assert kekctl("undelete", index).stdout == f"{etag}\n"
    kekctl("undelete", "nobody", code=3)


@pytest.mark.parametrize("name", ["plain", "-x", "it's $HOME", "red \x1b[31m\\, \x9b\u202e'\n"])
def test_command_that_delete_prints_undoes_it(
    kekctl: Kekctl, client: kekd.Client, daemon: Daemon, name: str
) -> None:
    client.push_index_kms(None, name, OLD)
    options = ("--address", daemon.address)
    done = kekctl(*options, "delete", "--store", "memory", "--", name)
    assert done.stdout == "deleted\n"
    (line,) = done.stderr.splitlines()
    assert line.isprintable()
    undo = line.removeprefix("kekctl: to undo this: ")
    assert undo.startswith(f"kekctl --address {daemon.address} undelete --store memory ")
    environment = clean_environment() | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", undo], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert client.get_index_kms(None, name) == OLD


def test_delete_reads_few_versions(
    kekctl: Kekctl, client: kekd.Client, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On S3, each may take a request."""
    for _ in range(5):
        client.push_index_kms(None, index, OLD)
    sizes: list[int] = []
    version_page = operations.version_page

    def note_size(*arguments: Any, page_size: int, **options: Any) -> Any:
        sizes.append(page_size)
        return version_page(*arguments, page_size=page_size, **options)

    monkeypatch.setattr(operations, "version_page", note_size)
    kekctl("delete", index)
    assert set(sizes) == {1}


def test_delete_that_cannot_be_undone_prints_no_command(
    start_daemon: StartDaemon, kekctl: Kekctl, client: kekd.Client
) -> None:
    assert kekctl("delete", "nobody").stderr == ""
    address = start_daemon("--memory", "--history-versions", "0").address
    with kekd.Client(address) as other:
        other.create_index_kms(None, "i", OLD)
    assert kekctl("--address", address, "delete", "i").stderr == ""


def state(client: kekd.Client, prefix: str) -> dict[str, kekd.KMSBlob | kekd.EnvelopeError]:
    return dict(client.scan_index_kms(None, prefix))


@pytest.fixture
def changed(client: kekd.Client, index: str) -> tuple[str, dict[str, Any]]:
    """Four indexes that changed since a time, or not; that time, and their state then."""
    for name in ("replaced", "deleted", "same"):
        client.create_index_kms(None, f"{index}/{name}", OLD)
    at = datetime.now(UTC).isoformat()
    then = state(client, index)
    client.push_index_kms(None, f"{index}/replaced", NEW)
    client.delete_index_kms(None, f"{index}/deleted")
    client.create_index_kms(None, f"{index}/new", NEW)
    return at, then


def test_restore_at_restores_the_state_of_that_time(
    kekctl: Kekctl, client: kekd.Client, index: str, changed: tuple[str, dict[str, Any]]
) -> None:
    at, then = changed
    command = ("restore", "--at", at, "--prefix", index)
    lines = kekctl(*command).stdout.splitlines()
    assert sorted(lines[:4]) == [
        f"deleted {index}/new",
        f"restored {index}/deleted",
        f"restored {index}/replaced",
        f"unchanged {index}/same",
    ]
    assert [line.split() for line in lines[4:]] == [
        ["restored", "2"],
        ["deleted", "1"],
        ["unchanged", "1"],
        ["failed", "0"],
    ]
    assert state(client, index) == then
    again = json_lines(kekctl(*command, "-o", "json"))
    assert {line["outcome"] for line in again} == {"unchanged"}
    assert len(again) == 4


def test_dry_run_of_restore_at_changes_nothing(
    kekctl: Kekctl, client: kekd.Client, index: str, changed: tuple[str, dict[str, Any]]
) -> None:
    now = state(client, index)
    shown = kekctl("restore", "--at", changed[0], "--prefix", index, "--dry-run").stdout
    assert [line.rsplit(maxsplit=1) for line in shown.splitlines()[4:]] == [
        ["would restore", "2"],
        ["would delete", "1"],
        ["unchanged", "1"],
        ["failed", "0"],
    ]
    assert state(client, index) == now


def test_restore_at_continues_after_an_unknown_state(
    start_daemon: StartDaemon, kekctl: Kekctl
) -> None:
    daemon = start_daemon("--memory", "--history-versions", "1")
    with kekd.Client(daemon.address) as client:
        for name in ("a", "b"):
            client.create_index_kms(None, name, OLD)
        at = datetime.now(UTC).isoformat()
        client.push_index_kms(None, "a", NEW)
        command = ("--address", daemon.address, "restore", "--at", at, "--all")
        shown = kekctl(*command, code=1).stdout
        assert "unchanged b\n" in shown
        assert f"a: cannot restore index 'a' to {at[:19]}" in shown.partition("failures:")[2]
        assert client.get_index_kms(None, "a") == NEW


def test_restore_at_replaces_only_what_it_read(
    kekctl: Kekctl, client: kekd.Client, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_index_kms(None, index, OLD)
    at = datetime.now(UTC).isoformat()
    client.push_index_kms(None, index, NEW)
    list_versions = kekd.Client.list_versions_index_kms
    rivals = iter([kekd.KMSBlob("rival", "none")])

    def list_before_a_rival(caller: kekd.Client, *arguments: Any, **options: Any) -> Any:
        versions = list(list_versions(caller, *arguments, **options))
        for rival in islice(rivals, 1):
            client.push_index_kms(None, index, rival)
        return iter(versions)

    monkeypatch.setattr(kekd.Client, "list_versions_index_kms", list_before_a_rival)
    assert kekctl("restore", "--at", at, "--prefix", index).stdout.startswith("restored ")
    monkeypatch.undo()
    kept = [version.blob for version in client.list_versions_index_kms(None, index, full=True)]
    assert [blob and blob.kms_name for blob in kept] == ["prod", "rival", "next", "prod"]


def test_restore_at_reads_no_version_before_the_one_that_it_restores(
    kekctl: Kekctl, client: kekd.Client, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_index_kms(None, index, NEW)
    client.push_index_kms(None, index, OLD)
    at = datetime.now(UTC).isoformat()
    client.push_index_kms(None, index, NEW)
    list_versions = kekd.Client.list_versions_index_kms

    def list_two(caller: kekd.Client, *arguments: Any, **options: Any) -> Any:
        yield from islice(list_versions(caller, *arguments, **options), 2)
        pytest.fail("it reads more")

    monkeypatch.setattr(kekd.Client, "list_versions_index_kms", list_two)
    assert kekctl("restore", "--at", at, "--prefix", index).stdout.startswith("restored ")
    assert client.get_index_kms(None, index) == OLD


@pytest.mark.parametrize(
    ("count", "kills"), [(600, 1), pytest.param(10_000, 10, marks=pytest.mark.slow)]
)
def test_killed_restore_at_completes_when_repeated(
    client: kekd.Client, daemon: Daemon, index: str, count: int, kills: int
) -> None:
    names = [f"{index}/{number:05}" for number in range(count)]
    assert all(isinstance(etag, str) for _, etag in push_all(client, names, OLD))
    at = datetime.now(UTC).isoformat()
    for number in range(DEFAULT_RETENTION.versions - 1):  # now a restore exceeds the limit
        push_all(client, names, replace(NEW, version=number))
    command = [str(BIN / "kekctl"), "restore", "--at", at, "--prefix", index, "-o", "json"]
    environment = clean_environment() | {"KEKD_ADDRESS": daemon.address, "PYTHONUNBUFFERED": "1"}
    done = 0
    for _ in range(kills):
        kill_after(done + count // (2 * kills), command, environment)
        restored = sum(envelope == OLD for envelope in state(client, index).values())
        assert done + count // (2 * kills) <= restored < count
        done = restored

    lines = subprocess.check_output(command, text=True, env=environment, timeout=PATIENCE)
    again = Counter(json.loads(line)["outcome"] for line in lines.splitlines())
    assert again == {"restored": count - done, "unchanged": done}
    assert state(client, index) == dict.fromkeys(names, OLD)


def kill_after(count: int, command: list[str], environment: dict[str, str]) -> None:
    """Kills a command after it has reported that many indexes."""
    # It can't run ahead of its reader by more than the pipe holds.
    piped: Any = {"stdout": subprocess.PIPE, "pipesize": 4096, "text": True}
    with subprocess.Popen(command, env=environment, **piped) as process:
        assert process.stdout
        assert len(list(islice(process.stdout, count))) == count
        process.kill()


def push_all(client: kekd.Client, names: list[str], blob: kekd.KMSBlob) -> list[Any]:
    return list(client.push_many_index_kms(None, [(name, blob, None) for name in names]))


@pytest.mark.parametrize(
    ("time", "says"),
    [
        ("2026-11-01T12:00", "has no time zone; add Z for UTC"),
        ("2026-11-01", "has no time zone; add Z for UTC"),
        ("yesterday", "is not a time; write 2026-01-31T12:00Z"),
        ("9999-12-31T00:00Z", "is in the future"),
    ],
)
def test_unusable_time_is_refused(kekctl: Kekctl, time: str, says: str) -> None:
    assert says in kekctl("restore", "--at", time, "--all", code=2).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "restore i",
        "restore --version 1 --all",
        "restore i --at 2026-01-01T00:00Z",
        "restore --at 2026-01-01T00:00Z",
        "restore i --version 1 --at 2026-01-01T00:00Z",
        "restore --at 2026-01-01T00:00Z --all --if-etag e",
    ],
)
def test_options_that_do_not_belong_together_are_refused(kekctl: Kekctl, arguments: str) -> None:
    kekctl(*arguments.split(), code=2)
