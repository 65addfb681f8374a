"""Runs the sessions, programs, flags and files of the documents."""

import json
import re
import subprocess
import textwrap
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cyborgdb_core
import pytest

import kekd
from kekd._cli import exit_codes
from kekd_common.policy import METHODS
from kekd_server.config.flag import flag_name, variable_name
from kekd_server.config.flags import FLAGS, default_of
from kekd_server.config.loader import load
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, clean_environment
from tests.fixtures.network import private_network
from tests.fixtures.s3 import free_port
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
RUNTIME = ("server", "aws", "native", "otel")
README = (ROOT / "README.md").read_text()
ACCESS = (ROOT / "docs" / "access.md").read_text()
BENCH = (ROOT / "bench" / "README.md").read_text()
BACKUP = (ROOT / "docs" / "backup.md").read_text()
TESTING = (ROOT / "docs" / "testing.md").read_text()
CYBORGDB = (ROOT / "docs" / "cyborgdb-service.md").read_text()
KEKCTL = (ROOT / "docs" / "kekctl.md").read_text()
HISTORY = (ROOT / "docs" / "history.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")]
DAEMON_LINES = [
    line
    for document in DOCUMENTS
    for line in map(str.strip, document.read_text().splitlines())
    if re.match(r"kekd --\w", line)
]


def blocks(document: str, language: str) -> list[str]:
    """Returns the code blocks in a language, also those in list items."""
    fenced = rf"^( *)```{language}\n(.*?)^\1```$"
    found = re.findall(fenced, document, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(content) for _, content in found]


def shell(
    command: str, environment: dict[str, str], *, within: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*within, "bash", "-c", command],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has never run kekd, with the commands in PATH."""
    environment = clean_environment() | {"HOME": str(tmp_path)}
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    environment.pop("XDG_RUNTIME_DIR", None)
    environment.pop("XDG_STATE_HOME", None)
    return environment


Shell = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def default_shell(environment: dict[str, str]) -> Iterator[Shell]:
    """Runs commands beside a daemon without settings, in a network where its port is free."""
    with private_network() as network:
        run = partial(shell, environment=environment, within=network)
        daemon = subprocess.Popen([*network, "kekd"], env=environment, stdout=subprocess.PIPE)
        try:
            assert run("kekctl wait").returncode == 0
            yield run
        finally:
            daemon.terminate()
            daemon.communicate(timeout=PATIENCE)


def test_session_in_the_readme_runs_as_printed(
    default_shell: Shell, environment: dict[str, str]
) -> None:
    (session,) = blocks(README, "console")
    home = environment["HOME"]
    for step in session.split("$ ")[1:]:
        command, _, expected = step.partition("\n")
        assert default_shell(command).stdout.replace(home, "/home/you") == expected


def test_readmes_first_program_prints_an_envelope(
    default_shell: Shell,
) -> None:
    program, _ = blocks(README, "python")
    done = default_shell(f"python - <<'END'\n{program}END")
    assert done.returncode == 0, done.stdout
    assert "provider='none'" in done.stdout


def test_quickstart_runs_as_printed(default_shell: Shell) -> None:
    (session,) = blocks(QUICKSTART, "console")
    for step in session.split("$ ")[1:]:
        command, _, expected = step.partition("\n")
        assert default_shell(command).stdout == expected
    for program, printed in zip(
        blocks(QUICKSTART, "python"), ["2 [0-9a-f]{32}\n", "True\n"], strict=True
    ):
        done = default_shell(f"python - <<'END'\n{program}END")
        assert re.fullmatch(printed, done.stdout), done.stdout
    assert "alias/prod" in default_shell("kekctl get videos").stdout
    *_, undo = blocks(QUICKSTART, "sh")
    for command in undo.splitlines():
        done = default_shell(command)
        assert done.returncode == 0, done.stdout


def test_figures_of_the_readme_are_in_the_benchmark_tables() -> None:
    reasons = README.partition("Why use it:")[2].partition("\n\n[bench/")[0]
    figures = re.findall(r"\d[\d.,]*(?= (?:ms|ns|requests))", reasons)
    assert len(figures) == 5
    for figure in figures:
        assert f" {figure} |" in BENCH


def test_readmes_program_for_a_keystore_runs(start_daemon: StartDaemon, tmp_path: Path) -> None:
    keystore = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(keystore))
    _, program = blocks(README, "python")
    kekd.connect(daemon.address)
    exec(program.replace("/var/lib/cyborgdb", str(keystore)), {})
    assert list(kekd.list_index_kms()) == []


def test_grpcurl_line_in_the_readme_runs(daemon: Daemon, environment: dict[str, str]) -> None:
    line = next(line for line in README.splitlines() if line.startswith("grpcurl"))
    done = shell(line.replace("/run/kekd/kekd.sock", str(daemon.socket)), environment)
    assert "kekd.v1.EnvelopeService" in done.stdout.splitlines()


@pytest.mark.parametrize("page", [BACKUP, RUNBOOK], ids=["backup", "runbook"])
def test_operators_commands_succeed(default_shell: Shell, tmp_path: Path, page: str) -> None:
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert lines
    create = """kekctl create -f - <<< '{"index_name": "my_index", "blob": {"provider": "none"}}'"""
    assert default_shell(create).returncode == 0
    for line in lines:
        if "my-bucket" not in line:
            done = default_shell(f"cd {tmp_path} && {line}")
            assert done.returncode == 0, done.stdout


def test_kekctl_pages_commands_succeed(default_shell: Shell, environment: dict[str, str]) -> None:
    home = Path(environment["HOME"])
    (home / "ca.crt").touch()
    envelope = {
        "provider": "aws-kms",
        "kms_name": "prod",
        "key_id": "alias/prod",
        "region": "eu-west-1",
        "wrapped_kek": "bm90IGEga2V5",
        "version": 7,
        "created_at": int(time.time()) - 5 * 3600,
    }
    document = json.dumps({"index_name": "my_index", "blob": envelope})
    assert default_shell(f"kekctl create -f - <<< '{document}'").returncode == 0
    (session,) = blocks(KEKCTL, "console")
    command, _, expected = session.removeprefix("$ ").partition("\n")
    assert default_shell(command).stdout == expected
    socket = home / ".local/state/kekd/kekd.sock"
    contexts, delete = blocks(KEKCTL, "sh")
    contexts = contexts.replace("/run/kekd/kekd.sock", str(socket)).replace(" --store memory", "")
    for line in contexts.splitlines():
        done = default_shell(f"cd {home} && unset KEKCTL_CONFIG && {line}")
        assert done.returncode == 0, done.stdout
    assert default_shell(delete.replace("tenant-a/", "my_")).stdout == "would delete my_index\n"


def test_programs_of_the_testing_page_run(environment: dict[str, str]) -> None:
    daemon, kms, plugins, test = blocks(TESTING, "python")
    assert shell(f"python - <<'END'\n{daemon}END", environment).stdout == "memory\n"
    printed = shell(f"python - <<'END'\n{kms}END", environment).stdout
    assert printed.startswith("True 1\ncannot use key: it is disabled; enable it")
    folder = Path(environment["HOME"])
    (folder / "conftest.py").write_text(plugins)
    (folder / "test_orders.py").write_text(test)
    done = shell(f"cd {folder} && python -m pytest -q -p no:cacheprovider", environment)
    assert "1 passed" in done.stdout, done.stdout


def test_program_of_the_cyborgdb_page_runs(daemon: Daemon) -> None:
    (program,) = blocks(CYBORGDB, "python")
    before = cyborgdb_core.get_index_kms
    exec(program.replace("unix:/run/kekd/kekd.sock", daemon.address), {})
    assert cyborgdb_core.get_index_kms is before


def test_history_pages_commands_and_program_run(default_shell: Shell) -> None:
    envelope = """'{"index_name": "my_index", "blob": {"provider": "none"}}'"""
    for line in (f"kekctl create -f - <<< {envelope}", "kekctl delete my_index"):
        assert default_shell(line).returncode == 0
    (undelete,) = (line for line in blocks(HISTORY, "sh") if "undelete" in line)
    assert default_shell(undelete).returncode == 0
    versions = default_shell("kekctl history my_index -o json").stdout.splitlines()
    created = json.loads(versions[-1])["version_id"]
    for line in (line for line in blocks(HISTORY, "sh") if line != undelete):
        confirmed = f"{line.replace('VERSION', created)} <<< y"
        done = default_shell(confirmed)
        assert done.returncode == 0, done.stdout
    (program,) = blocks(HISTORY, "python")
    done = default_shell(f"python - <<'END'\n{program}END")
    assert done.returncode == 0, done.stdout


def test_watch_on_the_protocol_page_begins_as_described(
    start_daemon: StartDaemon, environment: dict[str, str]
) -> None:
    port = free_port()
    start_daemon("--memory", "--listen", f"127.0.0.1:{port}")
    (watch,) = (block for block in blocks(PROTOCOL, "sh") if "WatchEnvelopes" in block)
    said = shell(watch.replace(":7535", f":{port}"), environment).stdout
    assert [word for word in ("started", "heartbeat", "DeadlineExceeded") if word in said] == [
        "started",
        "heartbeat",
        "DeadlineExceeded",
    ]


@pytest.mark.parametrize("line", DAEMON_LINES)
def test_every_line_that_starts_the_daemon_is_understood(
    line: str, environment: dict[str, str]
) -> None:
    done = shell(f"{line.partition('#')[0]} --print-config", environment)
    assert done.returncode == 0, done.stdout


def test_configuration_pages_file_is_valid(tmp_path: Path) -> None:
    (example,) = blocks(CONFIGURATION, "yaml")
    file = tmp_path / "kekd.yaml"
    file.write_text(example)
    assert len(load({}, file).settings.stores) == 3


def test_configuration_pages_table_is_made_of_the_settings() -> None:
    table = "".join(
        f"| `{flag_name(name)}` | `{variable_name(name)}` | `{name}` | {default_of(name)} |"
        f" {flag.help} |\n"
        for name, flag in FLAGS.items()
    )
    assert table in CONFIGURATION, table


def test_readme_and_help_have_every_exit_code(environment: dict[str, str]) -> None:
    documented = re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE)
    listed = shell("kekctl --help", environment).stdout.partition("Exit codes:\n")[2]
    in_help = [tuple(line.split(maxsplit=1)) for line in listed.splitlines()]
    meanings = [(str(code), meaning) for code, meaning in exit_codes.MEANINGS.items()]
    assert documented == in_help == meanings
    assert {code for _, code in exit_codes.BY_ERROR} <= exit_codes.MEANINGS.keys()


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, ROOT / "deploy" / "README.md"], ids=lambda path: path.name
)
def test_links_lead_to_a_file_and_a_heading(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text()):
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


def anchors(document: str) -> set[str]:
    """Returns the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", document, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_policy_on_the_access_page_is_valid(environment: dict[str, str], tmp_path: Path) -> None:
    listen, policy = blocks(ACCESS, "yaml")
    file = tmp_path / "kekd.yaml"
    file.write_text(listen + policy)
    settings = load({}, file).settings
    assert [listener.role for listener in settings.listeners] == ["database", "operator"]
    assert settings.policy
    (line,) = blocks(ACCESS, "sh")
    done = shell(line.replace("/etc/kekd/kekd.yaml", str(file)), environment)
    assert done.stdout == "allowed by rule tenant a\n"


def test_access_page_has_every_method() -> None:
    assert re.findall(r"^\| `([\w-]+)` \| [a-z]", ACCESS, re.MULTILINE)[: len(METHODS)] == [
        *("read", "list", "watch", "create", "push", "delete", "delete-if-match"),
        *("hold", "release", "destroy", "import-history"),
    ]
    assert len(METHODS) == 11


@pytest.fixture(scope="module")
def helps() -> str:
    """The snapshot of every command's help, which a test compares with the commands."""
    return (ROOT / "tests/texts/help.txt").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_flags_in_the_documents_exist(document: Path, helps: str) -> None:
    for flag in re.findall(r"(?<![\w`-])`?(--[a-z][\w-]+)", document.read_text()):
        assert re.search(rf"{flag}\b", helps), flag


def test_architecture_page_names_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    bases = [ROOT, ROOT / "server" / "kekd_server", ROOT / "client" / "kekd"]
    paths = re.findall(r"`([\w/]+(?:\.py|/))`", page)
    assert len(paths) > 40
    for path in paths:
        assert any((base / path).exists() for base in bases), path


@pytest.mark.parametrize(
    "decision", sorted(ROOT.glob("docs/decisions/0*.md")), ids=lambda path: path.stem
)
def test_decision_has_a_date_a_status_and_a_row_of_the_index(decision: Path) -> None:
    title, _, date, status, *_ = decision.read_text().splitlines()
    assert re.fullmatch(r"- Date: 20\d\d-\d\d-\d\d", date)
    assert re.match(r"- Status: (Accepted|Superseded by)\b", status)
    index = (decision.parent / "README.md").read_text()
    assert title.partition(": ")[2] in index


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [
        *project["dependencies"],
        *(dependency for name in RUNTIME for dependency in extras[name]),
    ]
    page = (ROOT / "docs/decisions/0004-dependencies.md").read_text()
    given = set(", ".join(re.findall(r"^\| (.+?) \|", page, re.MULTILINE)).split(", "))
    names = {re.split(r"[<>=\[]", dependency)[0] for dependency in needed}
    assert names - given == set()
