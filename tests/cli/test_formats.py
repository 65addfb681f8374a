"""The formats of --output, and the colors and times of the output."""

import json
import os
import pty
import re
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import kekd
from kekd._cli.common import main
from tests.cli.test_dry_run import commands
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, clean_environment
from tests.fixtures.kekctl import Kekctl, json_lines
from tests.fixtures.kekctl import kekctl as run_kekctl
from tests.patience import PATIENCE

DOCUMENT = '{"index_name": "%s", "blob": {"provider": "none"}}'
HOUR = 3600
ROOT = Path(__file__).parents[2]
WITHOUT_RESULT = {"completion", "export", "help", "wait"}
"""Commands that print no results. docs/kekctl.md says why."""


@pytest.fixture
def client(memory_daemon: Daemon) -> Iterator[kekd.Client]:
    """A client of a daemon with two envelopes."""
    blob = kekd.KMSBlob("prod", "aws-kms", "alias/prod", "eu-west-1", b"wrapped", 7)
    blob.created_at = int(time.time()) - 5 * HOUR
    with kekd.Client(memory_daemon.address) as client:
        client.push_index_kms(None, "first", blob)
        client.push_index_kms(None, "second", kekd.KMSBlob(provider="none"))
        yield client
        client.release_index_kms(None, "first")


@pytest.fixture
def kekctl(client: kekd.Client) -> Kekctl:
    return partial(run_kekctl, env={"KEKD_ADDRESS": client.address})


def yaml_documents(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


def test_every_command_with_a_result_has_every_format() -> None:
    without = set()
    for name, command in commands(main):
        option = next((param for param in command.params if param.name == "output"), None)
        if not isinstance(option, click.Option) or option.hidden:  # hidden: refused with a message
            without.add(name)
            continue
        assert isinstance(option.type, click.Choice)
        formats = ["table", "wide", "json", "yaml", "name"]
        assert list(option.type.choices) == (formats[:-1] if name == "doctor" else formats)
    assert without == WITHOUT_RESULT
    page = " ".join((ROOT / "docs/kekctl.md").read_text().split())
    explained = re.search(r"commands have no `-o`: .*?: its exit code", page)
    assert explained
    assert set(re.findall(r"`(\w+)`", explained[0])) == WITHOUT_RESULT


def test_wide_list_has_a_row_for_each_envelope(kekctl: Kekctl) -> None:
    rows = [line.split() for line in kekctl("list", "-o", "wide").stdout.splitlines()]
    assert rows == [
        ["index", "slot", "provider", "key", "region", "version", "age"],
        ["first", "prod", "aws-kms", "alias/prod", "eu-west-1", "7", "5h"],
        ["second", "-", "none", "-", "-", "1", "-"],
    ]


@pytest.mark.parametrize("form", ["wide", "json", "yaml"])
def test_list_of_nothing_is_empty(kekctl: Kekctl, form: str) -> None:
    assert kekctl("list", "-o", form, "--prefix", "nothing").output == ""


def test_list_in_json_and_yaml_has_what_get_has_without_the_wrapped_keks(kekctl: Kekctl) -> None:
    shown = [json.loads(kekctl("get", name, "-o", "json").stdout) for name in ("first", "second")]
    for envelope in shown:
        del envelope["blob"]["wrapped_kek"]
    assert shown[0]["blob"]["key_id"] == "alias/prod"
    assert json_lines(kekctl("list", "-o", "json")) == shown
    assert yaml_documents(kekctl("list", "-o", "yaml").stdout) == shown


@pytest.mark.parametrize("form", ["wide", "json"])
def test_list_reports_an_envelope_that_is_corrupt(
    start_daemon: StartDaemon, tmp_path: Path, form: str
) -> None:
    daemon = start_daemon("--disk", str(tmp_path / "keystore"))
    for name in ("bad", "good"):
        with kekd.Client(daemon.address) as client:
            client.create_index_kms(None, name, kekd.KMSBlob(provider="none"))
    (tmp_path / "keystore/_catalog/config/bad.kms.cat").write_bytes(b"damaged")
    done = run_kekctl("--address", daemon.address, "list", "-o", form, code=1)
    assert "good" in done.stdout
    assert "bad" not in done.stdout
    assert "the stored envelope of index 'bad' is corrupt" in done.stderr


def test_get_shows_several_envelopes_in_each_format(kekctl: Kekctl) -> None:
    table = kekctl("get", "first", "second").stdout.split("\n\n")
    assert [block.split()[:2] for block in table] == [["index", "first"], ["index", "second"]]
    wide = kekctl("get", "second", "first", "-o", "wide").stdout.splitlines()
    assert [line.split()[0] for line in wide] == ["index", "second", "first"]
    assert kekctl("get", "second", "first", "-o", "name").stdout == "second\nfirst\n"
    documents = yaml_documents(kekctl("get", "first", "second", "-o", "yaml").stdout)
    assert documents[0] == json.loads(kekctl("get", "first", "-o", "json").stdout)
    assert documents[1]["index_name"] == "second"


def test_get_of_several_reports_a_missing_one_and_shows_the_others(kekctl: Kekctl) -> None:
    done = kekctl("get", "first", "missing", "second", "-o", "name", code=3)
    assert done.stdout == "first\nsecond\n"
    assert done.stderr == "kekctl: No KMS blob exists for index 'missing'.\n"
    assert "single INDEX" in kekctl("get", "first", "second", "--version", "1", code=2).stderr


def test_names_can_be_passed_to_another_command(kekctl: Kekctl, client: kekd.Client) -> None:
    names = kekctl("list", "-o", "name").stdout.split()
    kekctl("delete", *names)
    assert list(client.list_index_kms()) == []


@pytest.mark.parametrize("command", ["delete missing", "release first", "import BACKUP"])
def test_names_omit_what_did_not_change(kekctl: Kekctl, tmp_path: Path, command: str) -> None:
    kekctl("export", "--file", tmp_path / "backup")
    words = command.replace("BACKUP", str(tmp_path / "backup")).split()
    assert kekctl(*words, "-o", "name").stdout == ""
    assert kekctl("delete", "first", "missing", "-o", "name").stdout == "first\n"


def test_names_of_a_watch_are_those_of_indexes(
    kekctl: Kekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = (kekd.Resync(), kekd.Change("i", "created", "etag"))
    monkeypatch.setattr(kekd.Client, "watch_index_kms", lambda *_: iter(changes))
    assert kekctl("watch", "-o", "name").stdout == "i\n"


@pytest.mark.parametrize(
    ("command", "content"),
    [
        ("create -f -", {"index_name": "i", "outcome": "created", "etag": "ETAG"}),
        ("push -f -", {"index_name": "i", "outcome": "pushed", "etag": "ETAG"}),
        ("delete first", {"index_name": "first", "outcome": "deleted"}),
        ("delete missing", {"index_name": "missing", "outcome": "unchanged"}),
        ("hold first --reason r", {"index_name": "first", "outcome": "held"}),
        ("release missing", {"index_name": "missing", "outcome": "unchanged"}),
    ],
)
def test_result_in_json_and_yaml_has_the_same_content(
    kekctl: Kekctl, client: kekd.Client, command: str, content: dict[str, str]
) -> None:
    words = command.split()
    expected = [content]
    (printed,) = json_lines(kekctl(*words, "-o", "json", stdin=DOCUMENT % "i"))
    if "etag" in content:
        expected = [content | {"etag": client.get_index_kms(None, "i").etag}]
        client.delete_index_kms(None, "i")
    assert [printed] == expected
    client.release_index_kms(None, "first")
    if "first" not in client.list_index_kms():
        client.push_index_kms(None, "first", kekd.KMSBlob(provider="none"))
    assert yaml_documents(kekctl(*words, "-o", "yaml", stdin=DOCUMENT % "i").stdout) == expected


def test_status_in_yaml_equals_json(kekctl: Kekctl) -> None:
    (document,) = yaml_documents(kekctl("status", "-o", "yaml").stdout)
    shown = json.loads(kekctl("status", "-o", "json").stdout)
    changing = {"now": "", "clock_skew_seconds": 0}
    assert document | changing == shown | changing


def test_hostile_text_cannot_steer_the_terminal_in_yaml(
    kekctl: Kekctl, client: kekd.Client
) -> None:
    name = "red \x1b[31m, bell \x07,\nnew line \u202e"
    client.push_index_kms(None, name, kekd.KMSBlob(provider="none"))
    done = kekctl("get", name, "-o", "yaml")
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert yaml_documents(done.stdout)[0]["index_name"] == name


def on_a_terminal(command: list[str], answer: str = "", **env: str) -> tuple[str, int]:
    """Runs kekctl with a terminal as its standard streams, and returns the output and exit code."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [BIN / "kekctl", *command],
        **dict.fromkeys(("stdin", "stdout", "stderr"), child),  # type: ignore[call-overload]
        env=clean_environment() | {"TERM": "xterm"} | env,
    )
    os.close(child)
    if answer:
        os.write(parent, answer.encode())
    output = b""
    try:
        while block := os.read(parent, 1 << 16):
            output += block
    except OSError:  # the process closed its side
        pass
    os.close(parent)
    return output.decode(), process.wait(timeout=PATIENCE)


def test_color_is_for_terminals_without_no_color(client: kekd.Client) -> None:
    command = ["--address", client.address, "doctor"]
    assert "\x1b[32mok" in on_a_terminal(command)[0]
    assert "\x1b" not in on_a_terminal(command, NO_COLOR="1")[0]
    assert "\x1b" not in run_kekctl(*command).output


def test_delete_on_a_terminal_asks_first(client: kekd.Client) -> None:
    command = ["--address", client.address, "delete", "first", "second"]
    output, code = on_a_terminal(command, "n\n")
    place = f"the default store of {client.address}"
    assert f"Delete 2 envelopes (first, second) in {place}? [y/N]" in output
    assert code == 1
    assert list(client.list_index_kms()) == ["first", "second"]
    assert on_a_terminal(command, "y\n")[1] == 0
    assert list(client.list_index_kms()) == []


def test_delete_without_a_question_needs_yes_or_no_terminal(client: kekd.Client) -> None:
    command = ["--address", client.address, "delete", "first"]
    output, code = on_a_terminal([*command, "--yes"])
    assert (output.splitlines()[0], code) == ("deleted", 0)
    assert run_kekctl(*command).stdout == "nothing to delete\n"


def test_delete_of_several_reports_each(kekctl: Kekctl) -> None:
    done = kekctl("delete", "first", "missing", "first")
    assert done.stdout == "first: deleted\nmissing: nothing to delete\n"


def test_delete_of_several_continues_after_a_failure(kekctl: Kekctl, client: kekd.Client) -> None:
    client.hold_index_kms(None, "first", "in court")
    done = kekctl("delete", "first", "second", code=9)
    assert done.stdout == "second: deleted\n"
    assert "index 'first' is held" in done.stderr


def test_delete_of_several_without_a_daemon_fails_once(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/nobody"
    done = run_kekctl("--timeout", "100ms", "--address", address, "delete", "a", "b", code=6)
    assert len(done.stderr.splitlines()) == 1
