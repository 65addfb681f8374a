"""Options that can come before or after the command, and commands that need no daemon."""

import subprocess
from functools import partial
from pathlib import Path

import pytest

import kekd
from kekd_common.version import __version__
from kekd_server.config.flag import variable_name
from kekd_server.config.settings import Settings
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, clean_environment
from tests.fixtures.kekctl import Kekctl, json_lines
from tests.fixtures.kekctl import kekctl as run_kekctl
from tests.fixtures.tls import TlsDaemon
from tests.patience import PATIENCE


@pytest.fixture
def kekctl(memory_daemon: Daemon) -> Kekctl:
    with kekd.Client(memory_daemon.address) as client:
        client.push_index_kms(None, "i", kekd.KMSBlob(provider="none"))
    return partial(run_kekctl, env={"KEKD_ADDRESS": memory_daemon.address})


def test_option_is_accepted_before_and_after_the_command(memory_daemon: Daemon) -> None:
    address = ("--address", memory_daemon.address)
    assert run_kekctl(*address, "list").output == run_kekctl("list", *address).output == ""
    assert run_kekctl("audit", "tail", "/dev/null", *address).output == ""


def test_option_after_the_command_overrides_the_one_before(memory_daemon: Daemon) -> None:
    address = ("--address", memory_daemon.address)
    run_kekctl("--address", "unix:/nowhere", "list", *address)


def test_output_and_store_are_accepted_before_the_command(kekctl: Kekctl) -> None:
    assert json_lines(kekctl("-o", "json", "list"))[0]["index_name"] == "i"
    assert kekctl("-o", "json", "list", "-o", "name").stdout == "i\n"
    assert kekctl("--store", "memory", "get", "i", "-o", "name").stdout == "i\n"
    refused = kekctl("--store", "disk:/elsewhere", "get", "i", code=7)
    assert refused.stderr.startswith("kekctl: --store disk:/elsewhere matches none")


@pytest.mark.parametrize("command", ["wait", "export", "completion bash", "help"])
def test_output_of_a_command_without_formats_is_refused(kekctl: Kekctl, command: str) -> None:
    name = command.partition(" ")[0]
    says = f"'kekctl {name}' has no output formats; omit --output"
    output = ("-o", "json")
    for words in ((*output, *command.split()), (*command.split(), *output)):
        assert says in kekctl(*words, code=2).stderr


@pytest.mark.parametrize("command", ["status", "version", "wait", "config view", "help"])
def test_store_of_a_command_without_one_is_refused(kekctl: Kekctl, command: str) -> None:
    store = ("--store", "memory")
    for words in ((*store, *command.split()), (*command.split(), *store)):
        assert f"'kekctl {command}' uses no store; omit --store" in kekctl(*words, code=2).stderr


@pytest.mark.parametrize("duration", ["30s", "5m", "1h30m", "250ms", "10", "0.5"])
def test_timeout_is_a_duration_or_seconds(kekctl: Kekctl, duration: str) -> None:
    kekctl("--timeout", duration, "get", "i")
    kekctl("wait", "--for", duration)


@pytest.mark.parametrize("duration", ["5 m", "1h30", "m", "-5s", "5w"])
def test_invalid_duration_is_refused(kekctl: Kekctl, duration: str) -> None:
    refused = kekctl(f"--timeout={duration}", "get", "i", code=2)
    assert "Invalid value for '--timeout'" in refused.stderr


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("KEKD_ADRESS", "KEKD_ADDRESS"),
        ("KEKD_ADDR", "KEKD_ADDRESS"),
        ("KEKD_KYE", "KEKD_KEY"),
        ("KEKD_SERVERNAME", "KEKD_SERVER_NAME"),
    ],
)
def test_misspelt_variable_is_refused_with_a_suggestion(name: str, meant: str) -> None:
    refused = run_kekctl("version", "--client", env={name: "x"}, code=2)
    says = f"{name} (from the environment): unknown variable; did you mean {meant}? Correct or"
    assert says in refused.stderr
    run_kekctl("version", "--client", env={name: ""})


def test_variables_of_the_daemon_and_of_kubernetes_are_accepted() -> None:
    settings = (variable_name(name) for name in Settings.model_fields)
    ports = ("KEKD_PORT", "KEKD_SERVICE_HOST", "KEKD_CA_PORT", "KEKD_SERVER_PORT")
    run_kekctl("version", "--client", env=dict.fromkeys([*settings, *ports], "x"))


def test_help_of_a_command_is_that_of_its_option(kekctl: Kekctl) -> None:
    for words in (["get"], ["audit", "tail"], ["config", "use-context"], []):
        assert kekctl("help", *words).stdout == kekctl(*words, "--help").stdout


def test_help_of_an_unknown_command_is_refused(kekctl: Kekctl) -> None:
    for words, says in (
        ("gte", "no command 'kekctl gte'; 'kekctl --help' lists them"),
        ("audit tial", "no command 'kekctl audit tial'; use 'kekctl audit tail'"),
        ("get i", "'kekctl get' has no commands; omit 'i'"),
    ):
        assert f"Error: {says}\n" in kekctl("help", *words.split(), code=2).stderr


def test_version_has_those_of_kekctl_and_the_daemon(kekctl: Kekctl) -> None:
    assert kekctl("version").stdout.split() == ["kekctl", __version__, "kekd", __version__]
    assert json_lines(kekctl("version", "-o", "json")) == [
        {"kekctl": __version__, "kekd": __version__}
    ]


def test_version_of_the_client_needs_no_daemon() -> None:
    done = run_kekctl("--address", "unix:/nowhere", "version", "--client")
    assert done.stdout.split() == ["kekctl", __version__]


def test_version_of_the_client_is_shown_before_the_error_of_the_daemon() -> None:
    done = run_kekctl("--address", "unix:/nowhere", "--timeout", "100ms", "version", code=6)
    assert done.stdout.split() == ["kekctl", __version__]
    assert done.stderr.startswith("kekctl: cannot reach kekd")


def test_backup_is_imported_from_standard_input(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--memory")
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", kekd.KMSBlob(provider="none"))
        kekctl = f"{BIN / 'kekctl'} --address {daemon.address}"
        script = f"{kekctl} export --file b && {kekctl} delete i && cat b | {kekctl} import -"
        piped = f"{kekctl} import <(cat b)"
        for command in (script, piped):
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=daemon.socket.parent,
                env=clean_environment(),
                capture_output=True,
                text=True,
                check=True,
                timeout=PATIENCE,
            )
            assert done.stdout.endswith("failed              0\n")
        assert list(client.list_index_kms()) == ["i"]


def test_failed_handshake_prints_no_line_of_grpc(
    shared_tls_daemon: TlsDaemon, tmp_path: Path
) -> None:
    other = tmp_path / "ca.pem"
    other.write_bytes(Path(shared_tls_daemon.client.cert).read_bytes())
    command = ["--address", shared_tls_daemon.address, "--ca", str(other), "--timeout", "5s"]
    done = subprocess.run(
        [BIN / "kekctl", *command, "list"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("kekctl: cannot reach kekd")
