"""kekctl commands, their output and their exit codes."""

import base64
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kekd
from kekd._cli.common import main
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, clean_environment
from tests.fixtures.kekctl import Kekctl
from tests.fixtures.kekctl import kekctl as run_kekctl
from tests.fixtures.s3 import free_port
from tests.patience import PATIENCE

CANARY = b"canary: a wrapped KEK that nobody may see"
CANARY_BASE64 = base64.b64encode(CANARY).decode()
BLOB = {
    "kms_name": "prod",
    "provider": "aws-kms",
    "key_id": "alias/prod",
    "region": "eu-west-1",
    "wrapped_kek": CANARY_BASE64,
    "version": 7,
    "created_at": "1700000000",
    "key_arn": "arn:aws:kms:eu-west-1:123456789012:key/1",
    "binding": "index",
}
HOSTILE_NAMES = ["red \x1b[31m, bell \x07,\nnew line", "delete \x7f, red \x9b31m, \u202ebackwards"]


def document(index: str, **fields: Any) -> str:
    return json.dumps({"index_name": index, "blob": BLOB | fields})


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("disk")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, port: int, disk: Path) -> Iterator[Daemon]:
    """A shared daemon. Its default store is a disk with a valid envelope and a corrupt one."""
    listeners = ("--listen", f"127.0.0.1:{port}", "--listen", f"[::1]:{port}")
    daemon = Daemon(tmp_path_factory.mktemp("kekctl"), *listeners, "--disk", str(disk), "--memory")
    daemon.wait()
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "taken", kekd.KMSBlob(provider="none"))
    (disk / "_catalog/config/corrupt.kms.cat").write_bytes(CANARY)
    yield daemon
    daemon.kill()


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[kekd.Client]:
    with kekd.Client(daemon.address) as client:
        yield client


@pytest.fixture(scope="module")
def kekctl(daemon: Daemon) -> Kekctl:
    """Runs kekctl against this daemon, and compares its exit code."""
    return partial(run_kekctl, env={"KEKD_ADDRESS": daemon.address})


def test_get_shows_a_table_without_the_wrapped_kek(kekctl: Kekctl) -> None:
    etag = kekctl("create", "-f", "-", stdin=document("table")).stdout.strip()
    table = kekctl("get", "table").stdout
    assert [line.split(maxsplit=1) for line in table.splitlines()] == [
        ["index", "table"],
        ["kms_name", "prod"],
        ["provider", "aws-kms"],
        ["key_id", "alias/prod"],
        ["region", "eu-west-1"],
        ["wrapped_kek", f"{len(CANARY)} bytes"],
        ["version", "7"],
        ["created_at", "2023-11-14T22:13:20+00:00"],
        ["key_arn", BLOB["key_arn"]],
        ["binding", "index"],
        ["etag", etag],
    ]


def test_get_shows_the_white_space_at_the_end_of_a_value(
    kekctl: Kekctl, client: kekd.Client
) -> None:
    client.push_index_kms(None, "white\n", kekd.KMSBlob("space ", provider="none"))
    lines = kekctl("get", "white\n").stdout.splitlines()
    assert lines[:2] == [r"index       white\n", "kms_name    space "]
    assert "key_id" in lines  # has no value


@pytest.mark.parametrize("created_at", [-(2**63), -1, 2**63 - 1])
def test_get_shows_any_time_that_can_be_stored(
    kekctl: Kekctl, client: kekd.Client, created_at: int
) -> None:
    client.push_index_kms(None, "time", kekd.KMSBlob(provider="none", created_at=created_at))
    assert "created_at" in kekctl("get", "time").stdout


def test_get_as_json_has_the_whole_envelope_and_its_etag(kekctl: Kekctl) -> None:
    etag = kekctl("create", "-f", "-", stdin=document("json")).stdout.strip()
    shown = json.loads(kekctl("get", "json", "--output", "json").stdout)
    assert shown == {"index_name": "json", "blob": BLOB, "etag": etag}


@pytest.mark.parametrize("name", ["round trip", "a/b", "é%41~", "-x", *HOSTILE_NAMES])
def test_json_output_of_get_can_be_stored_again(
    kekctl: Kekctl, client: kekd.Client, name: str
) -> None:
    blob = kekd.KMSBlob("prod", "aws", "secret", "eu-west-1", bytes(range(256)), 2**32 - 1, 17)
    etag = client.push_index_kms(None, name, blob)
    printed = kekctl("get", "-o", "json", "--", name).stdout
    client.delete_index_kms(None, name)
    assert kekctl("create", "-f", "-", stdin=printed).stdout == f"{etag}\n"
    assert kekctl("push", "-f", "-", stdin=printed).stdout == f"{etag}\n"
    assert client.get_index_kms(None, name) == blob


def test_get_as_json_has_every_field_even_if_empty(kekctl: Kekctl) -> None:
    assert json.loads(kekctl("get", "taken", "-o", "json").stdout)["blob"].keys() == BLOB.keys()


def test_document_with_the_field_names_of_grpcurl_is_accepted(
    kekctl: Kekctl, client: kekd.Client
) -> None:
    text = document("camel").replace("wrapped_kek", "wrappedKek").replace("key_id", "keyId")
    kekctl("create", "-f", "-", stdin=text)
    stored = client.get_index_kms(None, "camel")
    assert (stored.key_id, stored.wrapped_kek) == ("alias/prod", CANARY)


def test_document_can_come_from_a_file(kekctl: Kekctl, client: kekd.Client, tmp_path: Path) -> None:
    file = tmp_path / "envelope.json"
    file.write_text(document("file"))
    kekctl("create", "--file", str(file))
    assert client.get_index_kms(None, "file").wrapped_kek == CANARY


def test_list_prints_a_name_a_line(kekctl: Kekctl, client: kekd.Client) -> None:
    for name in ("list/b", "list/a", "list/ü", "lisp"):
        client.create_index_kms(None, name, kekd.KMSBlob(provider="none"))
    in_order_of_stored_keys = ["list/ü", "list/a", "list/b"]
    assert kekctl("list", "--prefix", "list/").stdout.splitlines() == in_order_of_stored_keys
    as_json = kekctl("list", "--prefix", "list/", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["index_name"] for line in as_json] == in_order_of_stored_keys


def test_every_command_takes_a_store(kekctl: Kekctl, disk: Path) -> None:
    memory, other = ("--store", "memory"), ("--store", f"disk:{disk}")
    kekctl("create", "-f", "-", *memory, stdin=document("store/one"))
    kekctl("push", "-f", "-", *memory, stdin=document("store/two"))
    assert kekctl("list", "--prefix", "store/", *memory).stdout == "store/one\nstore/two\n"
    assert kekctl("delete", "store/one", *other).stdout == "nothing to delete\n"
    assert kekctl("delete", "store/one", *memory).stdout == "deleted\n"
    kekctl("get", "store/two", *memory)
    kekctl("get", "store/two", *other, code=3)


def test_push_replaces_only_the_envelope_with_the_etag(kekctl: Kekctl, client: kekd.Client) -> None:
    first = kekctl("create", "-f", "-", stdin=document("etag")).stdout.strip()
    rotated = document("etag", version=8)
    second = kekctl("push", "-f", "-", "--if-etag", first, stdin=rotated).stdout.strip()
    kekctl("push", "-f", "-", "--if-etag", first, stdin=document("etag"), code=5)
    assert client.get_index_kms(None, "etag").etag == second


def test_delete_removes_only_the_envelope_with_the_etag(kekctl: Kekctl) -> None:
    etag = kekctl("create", "-f", "-", stdin=document("doomed")).stdout.strip()
    kekctl("delete", "doomed", "--if-etag", "another", code=5)
    assert kekctl("delete", "doomed", "--if-etag", etag).stdout == "deleted\n"


@pytest.mark.parametrize(
    ("code", "arguments", "stdin", "says"),
    [
        (1, "push -f -", document("x", kms_name="x" * 70_000), "larger than max"),
        (2, "push -f -", document("x", provider="vault"), "provider must be"),
        (2, "push -f -", document(""), "index_name cannot be empty."),
        (2, "push -f -", document("x" * 248), "index_name is too long"),
        (2, "push -f -", document("\ud800"), "not valid Unicode"),
        (2, "push -f /nowhere", "", "No such file"),
        (2, "list --store elsewhere", "", "use memory, disk:PATH or s3:BUCKET"),
        (3, "get nobody", "", "No KMS blob exists for index 'nobody'."),
        (4, "create -f -", document("taken"), "KMS blob already exists for index 'taken'."),
        (5, "push -f - --if-etag stale", document("taken"), "not the one that if_etag names"),
        (7, "list --store disk:/elsewhere", "", "matches none of the daemon's stores"),
        (8, "get corrupt", "", "the stored envelope of index 'corrupt' is corrupt"),
    ],
)
def test_each_failure_has_its_exit_code(
    kekctl: Kekctl, code: int, arguments: str, stdin: str, says: str
) -> None:
    failed = kekctl(*arguments.split(), stdin=stdin, code=code)
    assert says in failed.stderr
    assert failed.stdout == ""
    assert CANARY_BASE64 not in failed.stderr
    assert CANARY.decode() not in failed.stderr


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "-1", "1e10", "1e999", "soon"])
@pytest.mark.parametrize("arguments", ["--timeout {} list", "wait --for {}"])
def test_invalid_number_of_seconds_is_a_usage_error(
    kekctl: Kekctl, arguments: str, seconds: str
) -> None:
    refused = kekctl(*arguments.format(seconds).split(), code=2)
    assert "Error: Invalid value for '--" in refused.stderr


def test_zero_timeout_is_refused(kekctl: Kekctl) -> None:
    assert "'--timeout': 0.0 is not in the range" in kekctl("--timeout", "0", "list", code=2).stderr


def test_missing_store_is_reported_with_the_action_of_its_operator(
    kekctl: Kekctl, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    keystore = tmp_path / "keystore"
    address = start_daemon("--disk", str(keystore)).address
    shutil.rmtree(keystore)
    failed = kekctl("--address", address, "get", "x", code=9)
    assert failed.stderr == (
        f"kekctl: the folder {keystore} is missing: its volume may not be mounted; mount it\n"
    )


def test_missing_daemon_is_unavailable(kekctl: Kekctl, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/nobody"
    failed = kekctl("--address", address, "list", code=6)
    assert failed.stderr.startswith(f"kekctl: cannot reach kekd at {address}: no connection")


@pytest.mark.parametrize("command", [("create",), ("push", "--if-etag", "etag")])
def test_write_without_a_daemon_has_the_error_of_a_get(
    kekctl: Kekctl, tmp_path: Path, command: tuple[str, ...]
) -> None:
    address = f"unix:{tmp_path}/nobody"
    done = kekctl("--address", address, *command, "-f", "-", stdin=document("x"), code=6)
    assert done.stderr == kekctl("--address", address, "get", "x", code=6).stderr
    assert "check that it is running" in done.stderr


def test_unresponsive_daemon_times_out(kekctl: Kekctl) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        failed = kekctl("--address", address, "--timeout", "0.2", "list", code=6)
    assert failed.stderr == (
        f"kekctl: call to kekd at {address} timed out: it accepts connections but doesn't respond,"
        " as if stopped or overloaded; retry with a longer timeout (kekctl: --timeout)"
        " [DEADLINE_EXCEEDED]\n"
    )


def test_daemon_that_is_stopped_accepts_and_does_not_answer(
    kekctl: Kekctl, start_daemon: StartDaemon
) -> None:
    stopped = start_daemon("--memory")
    stopped.process.send_signal(signal.SIGSTOP)
    failed = kekctl("--address", stopped.address, "--timeout", "0.3", "list", code=6)
    assert (
        f"kekd at {stopped.address} timed out: it accepts connections but doesn't respond"
        in failed.stderr
    )


# Runs a command to which file modes apply even as root: see capabilities(7).
WITHOUT_OVERRIDE = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_socket_without_permission_is_denied(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--memory")
    daemon.socket.chmod(0)
    failed = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT_OVERRIDE),
            *(BIN / "kekctl", "--address", daemon.address, "list"),
        ],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert failed.returncode == 7
    assert failed.stderr.startswith(
        f"kekctl: cannot call kekd at {daemon.address}: no permission to use this socket; join the"
        f" group '{daemon.socket.group()}'"
    )


# A user without a home folder, in HOME and in passwd.
NO_HOME = """
import os, pwd, sys

def getpwuid(uid):
    raise KeyError(uid)

pwd.getpwuid = getpwuid
for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "KEKD_ADDRESS"):
    os.environ.pop(name, None)
"""


@pytest.mark.parametrize(
    ("program", "arguments", "says"),
    [
        ("from kekd._cli import main", ["list"], "Error: user "),
        ("from kekd._cli import main", ["doctor"], "Error: user "),
        ("from kekd_server import main", [], "kekd: user "),
        ("from kekd_server import main", ["--listen", "unix:/tmp/s"], "kekd: user "),
        ("from kekd_server import main", ["--memory", "--listen", "unix:~/s"], "cannot resolve"),
        ("import kekd; main = kekd.list_index_kms", [], "ValueError: user "),
    ],
)
def test_missing_home_folder_is_reported_with_the_setting(
    program: str, arguments: list[str], says: str
) -> None:
    if "kekd_server" in program:
        pytest.importorskip("grpc_reflection", reason="the daemon isn't installed")
    done = subprocess.run(
        [sys.executable, "-c", f"{NO_HOME}\n{program}\nmain()", *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert says in done.stderr
    assert done.returncode == (1 if "ValueError" in says else 2)
    assert ("Traceback" in done.stderr) is ("ValueError" in says)


@pytest.mark.parametrize("output", ["table", "json"])
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_stored_text_cannot_steer_the_terminal(
    kekctl: Kekctl, client: kekd.Client, name: str, output: str
) -> None:
    hostile = kekd.KMSBlob(name, "none", name, name, key_arn=name, binding=name)
    client.push_index_kms(None, name, hostile)
    shown = kekctl("get", name, "-o", output).stdout
    listed = kekctl("list", "--prefix", name, "-o", output).stdout
    assert all(line.isprintable() for line in [*shown.splitlines(), *listed.splitlines()])
    assert len(listed.splitlines()) == 1


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_error_cannot_steer_the_terminal(kekctl: Kekctl, name: str) -> None:
    (line,) = kekctl("get", name, "--store", "memory", code=3).stderr.splitlines()
    assert line.isprintable()


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_output_of_get_is_the_input_of_create_and_push(
    kekctl: Kekctl, client: kekd.Client, form: str
) -> None:
    name = f'from {form}: \x07, {HOSTILE_NAMES[0]}, "quoted" \u20ac'
    kekctl("create", "-f", "-", stdin=document(name))
    printed = kekctl("get", name, "-o", form).stdout
    blob = client.get_index_kms(None, name)
    client.delete_index_kms(None, name)
    kekctl("create", "-f", "-", stdin=printed)
    kekctl("push", f"copy from {form}", "-f", "-", stdin=printed)
    kekctl("push", f"copy from {form}", "-f", "-", stdin=printed)
    for index in (name, f"copy from {form}"):
        assert client.get_index_kms(None, index) == blob


def test_envelope_bound_to_another_index_is_not_copied(kekctl: Kekctl, client: kekd.Client) -> None:
    bound = document("bound", binding='{"index_name":"bound","store":"memory"}')
    refused = kekctl("push", "other", "-f", "-", stdin=bound, code=2)
    assert "its KEK is bound to index 'bound'" in refused.stderr
    assert "other" not in client.list_index_kms()
    kekctl("push", "bound", "-f", "-", stdin=bound)


def test_yaml_without_its_library_is_refused_with_the_command_that_installs_it() -> None:
    program = "import sys; sys.modules['yaml'] = None; from kekd._cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--address", "unix:/nowhere", "push", "-f", "-"],
        env=clean_environment(),
        input="index_name: a",
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert "cannot read YAML: PyYAML is not installed; use JSON, or run pip" in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "line 1: not JSON", id="nothing"),
        pytest.param(
            f"{document('x')}\n{document('y')}", "line 2: text after the first", id="two in JSON"
        ),
        pytest.param(
            "---\nindex_name: x\nblob: {}\n---\nindex_name: y", "more than one", id="two in YAML"
        ),
        pytest.param(f"- {CANARY_BASE64}", "not an envelope", id="YAML list"),
        pytest.param(f"index_name: x\n b: {CANARY_BASE64}: a", "line 2: a second", id="no YAML"),
        pytest.param("index_name: 1\nblob: {}", "not an envelope", id="YAML number as the name"),
        pytest.param(
            "index_name: x\nblob: {created_at: 2026-01-01}", "created_at: invalid", id="YAML date"
        ),
        pytest.param(f'{{"a": 1,\n "b": "{CANARY_BASE64}', "line 2: not JSON", id="half"),
        pytest.param("[" * 100_000, "not JSON", id="too deep"),
        pytest.param(f'{{"version": {"1" * 5000}}}', "not JSON", id="too many digits"),
        pytest.param("\udcff", "not", id="not UTF-8"),
        pytest.param(f'["{CANARY_BASE64}"]', "not an envelope", id="array"),
        pytest.param(json.dumps({"blob": BLOB}), "index_name", id="no name"),
        pytest.param(json.dumps({"index_name": "x", "blob": CANARY_BASE64}), "blob", id="no blob"),
        pytest.param(
            json.dumps({"index_name": "x", "blob": BLOB, "blbo": CANARY_BASE64}),
            "unknown key; use index_name",
            id="unknown key",
        ),
        pytest.param(document("x", wraped_kek=CANARY_BASE64), "unknown key", id="unknown field"),
        pytest.param(document("x", version=CANARY_BASE64), "version", id="wrong type"),
        pytest.param(document("x", version=-1), "version", id="out of range"),
        pytest.param(
            document("x", wrapped_kek=CANARY_BASE64[1:]), "wrapped_kek", id="short base64"
        ),
        pytest.param(
            document("x", wrapped_kek=f"*{CANARY_BASE64}"), "wrapped_kek", id="not base64"
        ),
        pytest.param(
            document("x").replace("wrapped_kek", "wrappedKek").replace(CANARY_BASE64, "*" * 40),
            "wrapped_kek",
            id="not base64, as grpcurl spells it",
        ),
        pytest.param(document("x", key_id="a", keyId="b"), "two spellings", id="two spellings"),
        pytest.param(
            document("x", region="a").replace(
                '"region":', f'"region": "{CANARY_BASE64}", "region":'
            ),
            "duplicate key",
            id="twice",
        ),
    ],
)
def test_damaged_document_is_refused_without_showing_it(
    kekctl: Kekctl, client: kekd.Client, text: str, says: str
) -> None:
    refused = kekctl("push", "-f", "-", stdin=text, code=2)
    assert says in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert CANARY_BASE64[1:20] not in refused.stderr
    assert "x" not in client.list_index_kms()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("get nothere >&-", 1),
        ("list >&-", 1),
        ("export >&-", 1),
        ("status >&-", 1),
        ("wait --for 0 >&-", 1),
        ("--help >&-", 1),
        ("--version >&-", 1),
        ("push -f - <&-", 2),
        ("--help >/dev/full", 1),
        ("--version >/dev/full", 1),
    ],
)
def test_closed_or_full_stream_causes_no_traceback(daemon: Daemon, command: str, code: int) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{BIN}/kekctl {command}"],
        env=clean_environment() | {"KEKD_ADDRESS": daemon.address},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1


def test_command_with_closed_output_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    for command in main.commands:
        with pytest.raises(SystemExit) as ended:
            main.main([command])
        assert ended.value.code == 1


def test_wait_returns_at_once_from_a_daemon_that_serves(kekctl: Kekctl) -> None:
    assert kekctl("wait", "--for", "0").stdout == ""
    assert kekctl("wait", "--for", "0", "--service", "").stdout == ""


def test_wait_waits_for_a_daemon_that_starts_late(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/late/kekd.sock"
    waiting = subprocess.Popen(
        [BIN / "kekctl", "--address", address, "wait"], stderr=subprocess.PIPE
    )
    assert start_daemon("--memory", name="late").address == address
    _, stderr = waiting.communicate(timeout=PATIENCE)
    assert (waiting.returncode, stderr) == (0, b"")


def test_wait_gives_up_on_a_daemon_that_never_starts(kekctl: Kekctl, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/never"
    failed = kekctl("--address", address, "wait", "--for", "0.3", code=6)
    assert f"cannot reach kekd at {address}: " in failed.stderr


def test_closed_pipe_ends_a_list_quietly(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon("--disk", str(tmp_path / "keystore"))
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "0", kekd.KMSBlob(provider="none"))
    records = tmp_path / "keystore/_catalog/config"
    for number in range(3000):  # several pages, and more than a pipe holds
        (records / f"{number:0200}.kms.cat").hardlink_to(records / "0.kms.cat")
    listing = f"{BIN / 'kekctl'} --address {daemon.address} list | head -1"
    done = subprocess.run(listing, shell=True, capture_output=True, check=True, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == (b"0\n", b"")


@pytest.mark.parametrize(
    "spelling",
    [
        "unix:{folder}/kekd.sock",
        "unix:kekd.sock",
        "unix://{folder}/kekd.sock",
        "127.0.0.1:{port}",
        "localhost:{port}",
        "[::1]:{port}",
    ],
)
def test_address_can_be_written_in_many_ways(daemon: Daemon, port: int, spelling: str) -> None:
    address = spelling.format(folder=daemon.socket.parent, port=port)
    subprocess.run(
        [BIN / "kekctl", "list"],
        env=clean_environment() | {"KEKD_ADDRESS": address},
        cwd=daemon.socket.parent,
        check=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(
    "address",
    [
        "nonsense",
        "unix:",
        "http://127.0.0.1:7535",
        "127.0.0.1",
        "127.0.0.1:grpc",
        "127.0.0.1:99999",
        "127.0.0.1:0",
        ":7535",
        "::1",
        "[::1]",
    ],
)
def test_invalid_address_is_rejected(kekctl: Kekctl, address: str) -> None:
    refused = kekctl("--timeout", "1", "--address", address, "list", code=2)
    assert f"invalid address '{address}'; use unix:PATH, unix:///PATH, HOST:PORT" in refused.stderr


@pytest.mark.parametrize("name", ["it's a folder", "é", "%41", "a?b#c"])
def test_socket_path_is_used_unchanged(start_daemon: StartDaemon, name: str) -> None:
    assert start_daemon("--memory", name=name).socket.is_socket()


@pytest.mark.parametrize("command", ["list", "status", "export"])
def test_full_output_is_reported(daemon: Daemon, command: str) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [BIN / "kekctl", "--address", daemon.address, command],
            check=False,
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode == 1
    assert ended.stderr.endswith("Error: cannot write output: No space left on device\n")


@pytest.fixture
def watch(daemon: Daemon) -> Iterator[subprocess.Popen[str]]:
    """A running `kekctl watch`."""
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = f"{heed}; from kekd._cli import main; main()"
    arguments = ["--address", daemon.address, "watch", "--store", "memory", "--prefix", "w"]
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "resync\n"
        yield process
        process.kill()


MEMORY = kekd.StorageConfig.memory()


def test_watch_prints_each_change_as_it_comes_until_ctrl_c(
    watch: subprocess.Popen[str], client: kekd.Client
) -> None:
    assert watch.stdout
    etag = client.create_index_kms(MEMORY, "w\x1b[31m ", kekd.KMSBlob(provider="none"))
    client.push_index_kms(MEMORY, "other", kekd.KMSBlob(provider="none"))
    assert watch.stdout.readline() == f"created w\\x1b[31m  {etag}\n"
    client.delete_index_kms(MEMORY, "w\x1b[31m ")
    assert watch.stdout.readline() == "deleted w\\x1b[31m \n"
    watch.send_signal(signal.SIGINT)
    output, errors = watch.communicate(timeout=PATIENCE)
    assert (output, errors, watch.returncode) == ("", "", 130)


def test_closed_pipe_ends_a_watch_quietly(
    watch: subprocess.Popen[str], client: kekd.Client
) -> None:
    assert watch.stdout
    assert watch.stderr
    watch.stdout.close()
    client.push_index_kms(MEMORY, "w", kekd.KMSBlob(provider="none"))
    assert watch.stderr.read() == ""
    assert watch.wait(timeout=PATIENCE) == 1


def test_watch_prints_json_lines(daemon: Daemon, client: kekd.Client) -> None:
    command = [str(BIN / "kekctl"), "--address", daemon.address, "watch", "--store", "memory"]
    with subprocess.Popen([*command, "--output", "json"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline()) == {"kind": "resync"}
        etag = client.create_index_kms(MEMORY, "json", kekd.KMSBlob(provider="none"))
        event = json.loads(process.stdout.readline())
        process.kill()
    assert event == {
        "index_name": "json",
        "kind": "created",
        "etag": etag,
        "breaches_hold": False,
    }
