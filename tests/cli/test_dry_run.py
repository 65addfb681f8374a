"""Commands with --dry-run print what they would do, and change nothing."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click
import pytest
import yaml

import kekd
from kekd._cli.common import main
from kekd.kek import Registry
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.fixtures.kekctl import Kekctl, json_lines
from tests.fixtures.kekctl import kekctl as run_kekctl
from tests.fixtures.kms import Aws
from tests.fixtures.s3 import REGION

DOCUMENT = '{"index_name": "%s", "blob": {"provider": "none", "version": 7}}'
READING = {
    "audit search",
    "audit tail",
    "completion",
    "config current-context",
    "config get-contexts",
    "config view",
    "diff",
    "drift",
    "export",
    "get",
    "help",
    "history",
    "list",
    "policy check",
    "status",
    "unwrap",
    "version",
    "wait",
    "watch",
}
"""Commands that change nothing."""


def commands(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found
            yield from commands(found, f"{name} {child}".strip())
    else:
        yield name, command


@pytest.fixture
def daemon(start_daemon: StartDaemon, tmp_path: Path) -> Daemon:
    """A daemon with the envelopes `a`, of two versions, and `gone`, which was deleted."""
    daemon = start_daemon("--disk", str(tmp_path / "keystore"))
    with kekd.Client(daemon.address) as client:
        for key in ("old", "new"):
            client.push_index_kms(None, "a", kekd.KMSBlob(provider="none", key_id=key))
        client.create_index_kms(None, "gone", kekd.KMSBlob(provider="none"))
        client.delete_index_kms(None, "gone")
    return daemon


@pytest.fixture
def kekctl(daemon: Daemon) -> Kekctl:
    return partial(run_kekctl, env={"KEKD_ADDRESS": daemon.address})


@pytest.fixture
def unchanged(daemon: Daemon) -> Iterator[None]:
    """Compares the whole state of the daemon before and after the test."""
    before = state(daemon)
    yield
    assert state(daemon) == before


def state(daemon: Daemon) -> list[object]:
    with kekd.Client(daemon.address) as client:
        names = list(client.list_index_kms(show_deleted=True))
        versions = [list(client.list_versions_index_kms(None, name)) for name in names]
        holds = [client.find_hold_index_kms(None, name) for name in names]
        return [names, versions, holds]


def test_every_command_that_changes_something_has_a_dry_run() -> None:
    without = {
        name
        for name, command in commands(main)
        if "dry_run" not in {param.name for param in command.params}
    }
    assert without == READING


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("command", "stdin", "printed"),
    [
        ("create -f -", DOCUMENT % "b", "would create b"),
        ("push -f -", DOCUMENT % "a", "would push a"),
        ("delete a", "", "would delete a"),
        ("delete a gone", "", "would delete a\ngone: nothing to delete"),
        ("hold a --reason r", "", "would hold a"),
        ("release a", "", "nothing to release"),
        ("undelete gone", "", "would undelete gone"),
        ("restore a --version OLD", "", "would restore a"),
        ("restore a --version OLD --if-etag ETAG", "", "would restore a"),
    ],
)
def test_dry_run_prints_what_it_would_do(
    kekctl: Kekctl, daemon: Daemon, command: str, stdin: str, printed: str
) -> None:
    with kekd.Client(daemon.address) as client:
        old = [version.version_id for version in client.list_versions_index_kms(None, "a")][-1]
        etag = client.get_index_kms(None, "a").etag
    words = command.replace("OLD", old).replace("ETAG", etag).split()
    done = kekctl(*words, "--dry-run", stdin=stdin)
    assert (done.stdout, done.stderr) == (f"{printed}\n", "")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("command", "stdin", "code", "says"),
    [
        ("create -f -", DOCUMENT % "a", 4, "KMS blob already exists for index 'a'."),
        ("push -f - --if-etag stale", DOCUMENT % "a", 5, "etag mismatch for index 'a'"),
        ("delete a --if-etag stale", "", 5, "etag mismatch for index 'a'"),
        ("undelete a", "", 4, "KMS blob already exists for index 'a'."),
        ("undelete never", "", 3, "the store keeps no version of it"),
        ("restore a --version none", "", 3, "no version"),
        ("destroy a --reason r --if-etag stale", "", 5, "etag mismatch"),
    ],
)
def test_dry_run_fails_as_the_command_would(
    kekctl: Kekctl, command: str, stdin: str, code: int, says: str
) -> None:
    dry = kekctl(*command.split(), "--dry-run", stdin=stdin, code=code)
    assert says in dry.stderr
    assert dry.stdout == ""
    yes = ["--yes"] if command.startswith("destroy") else []
    assert kekctl(*command.split(), *yes, stdin=stdin, code=code).stderr == dry.stderr


def test_dry_run_reports_a_hold(kekctl: Kekctl, daemon: Daemon) -> None:
    kekctl("hold", "a", "--reason", "in court")
    before = state(daemon)
    for command in ("push -f -", "delete a", "destroy a --reason r"):
        refused = kekctl(*command.split(), "--dry-run", stdin=DOCUMENT % "a", code=9)
        assert "index 'a' is held: in court" in refused.stderr
    assert kekctl("release", "a", "--dry-run").stdout == "would release a\n"
    assert state(daemon) == before


@pytest.mark.usefixtures("unchanged")
def test_dry_run_of_destroy_lists_what_it_would_remove(kekctl: Kekctl) -> None:
    lines = kekctl("destroy", "a", "--reason", "r", "--dry-run").stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("would destroy  ") for line in lines)


@pytest.mark.usefixtures("unchanged")
def test_dry_run_of_destroy_has_its_outcome_and_store_in_json(
    kekctl: Kekctl, daemon: Daemon, tmp_path: Path
) -> None:
    destroy = ("destroy", "a", "--reason", "r", "--dry-run")
    (receipt,) = json_lines(kekctl(*destroy, "-o", "json"))
    assert (receipt["outcome"], receipt["store"]) == ("would destroy", f"disk:{tmp_path}/keystore")
    assert 'outcome: "would destroy"' in kekctl(*destroy, "-o", "yaml").stdout
    names = kekctl(*destroy, "-o", "name")
    assert (names.stdout, names.stderr) == ("a\n", "kekctl: dry run: these names would change\n")


def test_dry_run_of_an_import_counts_what_it_would_do(kekctl: Kekctl, tmp_path: Path) -> None:
    kekctl("export", "--file", tmp_path / "backup")
    kekctl("delete", "a")
    printed = kekctl("import", tmp_path / "backup", "--dry-run").stdout
    assert "would create        1\n" in printed
    assert "would overwrite     0\n" in printed


def test_dry_run_of_an_import_has_the_outcomes_in_json(
    kekctl: Kekctl, daemon: Daemon, tmp_path: Path
) -> None:
    kekctl("export", "--file", tmp_path / "backup")
    kekctl("push", "-f", "-", stdin=DOCUMENT % "a")
    before = state(daemon)
    arguments = ("import", tmp_path / "backup", "--dry-run", "--overwrite", "-o", "json")
    assert json_lines(kekctl(*arguments)) == [{"index_name": "a", "outcome": "would overwrite"}]
    assert state(daemon) == before


RESULTS = {
    "config unset": (
        "current-context",
        {"name": "current-context", "outcome": "would change"},
    ),
    "config delete-context": ("prod", {"name": "prod", "outcome": "would delete"}),
    "config rename-context": ("prod new", {"name": "new", "outcome": "would change"}),
    "config set-context": ("prod --store memory", {"name": "prod", "outcome": "would change"}),
    "config use-context": ("prod", {"name": "prod", "outcome": "would change"}),
    "create": ("-f -", {"index_name": "new", "outcome": "would create"}),
    "delete": ("a", {"index_name": "a", "outcome": "would delete"}),
    "destroy": ("a --reason r", {"index_name": "a", "outcome": "would destroy"}),
    "hold": ("a --reason r", {"index_name": "a", "outcome": "would hold"}),
    "import": ("BACKUP", {"index_name": "new", "outcome": "would create"}),
    "kms create-secret": ("vault", {"slot": "vault", "outcome": "would create"}),
    "provision": ("new --slot prod", {"index_name": "new", "outcome": "would provision"}),
    "push": ("-f -", {"index_name": "new", "outcome": "would push"}),
    "release": ("held", {"index_name": "held", "outcome": "would release"}),
    "restore": ("a --version OLD", {"index_name": "a", "outcome": "would restore"}),
    "rotate": ("wrapped", {"index_name": "wrapped", "outcome": "would rotate"}),
    "undelete": ("gone", {"index_name": "gone", "outcome": "would undelete"}),
}
"""By command: its arguments, and what its dry run prints."""


@pytest.fixture
def files(daemon: Daemon, aws: Aws, tmp_path: Path) -> dict[str, str]:
    """The files of all commands, with what they need in the daemon and in KMS."""
    registry, contexts = tmp_path / "registry.yaml", tmp_path / "contexts.json"
    key = aws.new_alias(aws.new_key())
    where = f"endpoint_url: '{aws.endpoint}', region: {REGION}"
    registry.write_text(f"""kms: {{registry: {{
        prod: {{provider: aws-kms, key_id: {key}, {where}}},
        vault: {{provider: aws, key_id: dry-run-{os.urandom(4).hex()}, {where}}}}}}}""")
    contexts.write_text('{"contexts": {"prod": {"store": "memory"}}}')
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "new", kekd.KMSBlob(provider="none"))
        run_kekctl("--address", daemon.address, "export", "--file", tmp_path / "backup")
        client.delete_index_kms(None, "new")
        client.hold_index_kms(None, "held", "in court")
        Registry.from_yaml(registry).provision("wrapped", "prod", client=client)
    return {
        "KEKD_ADDRESS": daemon.address,
        "KEKD_REGISTRY": str(registry),
        "KEKCTL_CONFIG": str(contexts),
    }


# test_doctor.py has the dry run of doctor, whose results differ each time.
@pytest.mark.parametrize(
    "command", [name for name, _ in commands(main) if name not in READING | {"doctor"}]
)
def test_dry_run_has_its_outcome_in_json_and_yaml(
    daemon: Daemon, files: dict[str, str], tmp_path: Path, command: str
) -> None:
    contexts = Path(files["KEKCTL_CONFIG"])
    with kekd.Client(daemon.address) as client:
        old = [version.version_id for version in client.list_versions_index_kms(None, "a")][-1]
    arguments, expected = RESULTS[command]
    arguments = arguments.replace("OLD", old).replace("BACKUP", str(tmp_path / "backup"))
    words = [*command.split(), *arguments.split(), "--dry-run", "-o"]
    before = [state(daemon), contexts.read_text()]
    stdin = DOCUMENT % "new" if arguments == "-f -" else ""
    as_json = json_lines(run_kekctl(*words, "json", stdin=stdin, env=files))
    as_yaml = list(yaml.safe_load_all(run_kekctl(*words, "yaml", stdin=stdin, env=files).stdout))
    assert as_json == as_yaml
    assert expected in [{key: result.get(key) for key in expected} for result in as_json]
    assert [state(daemon), contexts.read_text()] == before
