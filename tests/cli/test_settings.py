"""The daemon's settings, as `kekd --print-config` prints or rejects them."""

import datetime as dt
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from click.testing import CliRunner, Result

from kekd_common.validation_error import UNDESCRIBED
from kekd_server.command import main
from kekd_server.config.settings import Settings
from tests.fixtures.daemon import BIN, clean_environment
from tests.patience import PATIENCE

PrintConfig = Callable[..., Result]


class Example(NamedTuple):
    """A setting from each source, and its resulting values."""

    in_file: Any
    variable: str
    from_variable: Any
    flags: list[str]
    from_flags: Any


EXAMPLES = {
    "listen": Example(
        ["unix:/file", {"address": "unix:/other", "engine": "native"}],
        "unix:/variable, [::1]:7",
        ["unix:/variable", "[::1]:7"],
        ["--listen", "unix:/flag", "--listen", "localhost:7"],
        ["unix:/flag", "localhost:7"],
    ),
    "tls_cert": Example("/file", "/variable", "/variable", ["--tls-cert", "/flag"], "/flag"),
    "tls_key": Example("/file", "/variable", "/variable", ["--tls-key", "/flag"], "/flag"),
    "tls_client_ca": Example(
        "/file", "/variable", "/variable", ["--tls-client-ca", "/flag"], "/flag"
    ),
    "engine": Example("grpcio", "native", "native", ["--engine", "auto"], "auto"),
    "workers": Example(2, "3", 3, ["--workers", "4"], 4),
    "disk": Example(
        ["/file"],
        "/variable,/other",
        ["/variable", "/other"],
        ["--disk", "/flag", "--disk", "/with,comma"],
        ["/flag", "/with,comma"],
    ),
    "create_stores": Example(
        in_file=True,
        variable="false",
        from_variable=False,
        flags=["--create-stores"],
        from_flags=True,
    ),
    "memory": Example(
        in_file=True, variable="false", from_variable=False, flags=["--memory"], from_flags=True
    ),
    "s3": Example(
        [{"bucket": "file", "prefix": "", "region": "here"}],
        "variable,other/a/b",
        [{"bucket": "variable", "prefix": ""}, {"bucket": "other", "prefix": "a/b"}],
        ["--s3", "flag/prefix"],
        [{"bucket": "flag", "prefix": "prefix"}],
    ),
    "s3_region": Example("file", "variable", "variable", ["--s3-region", "flag"], "flag"),
    "s3_endpoint": Example(
        "http://file",
        "http://variable",
        "http://variable",
        ["--s3-endpoint", "http://flag"],
        "http://flag",
    ),
    "s3_addressing_style": Example(
        "path", "virtual", "virtual", ["--s3-addressing-style", "path"], "path"
    ),
    "s3_poll": Example(1.5, "2.5", 2.5, ["--s3-poll", "1m"], 60.0),
    "history_versions": Example(1, "2", 2, ["--history-versions", "0"], 0),
    "history_days": Example(1.5, "2.5", 2.5, ["--history-days", "0"], 0.0),
    "history_on_failure": Example(
        "allow", "deny", "deny", ["--history-on-failure", "allow"], "allow"
    ),
    "audit": Example("/file", "/variable", "/variable", ["--audit", "-"], "-"),
    "max_calls": Example(1, "2", 2, ["--max-calls", "3"], 3),
    "max_rate": Example(1.5, "2.5", 2.5, ["--max-rate", "3"], 3.0),
    "max_burst": Example(1, "2", 2, ["--max-burst", "3"], 3),
    "max_connection_age": Example(1.5, "2.5", 2.5, ["--max-connection-age", "3"], 3.0),
    "keepalive": Example(1.5, "2.5", 2.5, ["--keepalive", "3"], 3.0),
    "ready_answers": Example(
        in_file=False,
        variable="false",
        from_variable=False,
        flags=["--ready-answers"],
        from_flags=True,
    ),
    "metrics": Example("[::1]:1", "host:2", "host:2", ["--metrics", "127.0.0.1:3"], "127.0.0.1:3"),
    "take_over": Example(
        in_file=True, variable="false", from_variable=False, flags=["--take-over"], from_flags=True
    ),
    "log_format": Example("json", "text", "text", ["--log-format", "json"], "json"),
    "log_level": Example("debug", "warning", "warning", ["--log-level", "error"], "error"),
    "shutdown_grace": Example(1.5, "2500ms", 2.5, ["--shutdown-grace", "0"], 0.0),
}
FILE_ONLY = {"policy"}


def beside(name: str) -> list[str]:
    """Returns the flags that a setting requires."""
    if not name.startswith("tls_"):
        return []
    pair = {"tls_cert": "--tls-cert=/c", "tls_key": "--tls-key=/k"}
    return [flag for other, flag in pair.items() if other != name]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kekd.yaml"


@pytest.fixture
def print_config() -> PrintConfig:
    """Runs the command in this process, which is faster than starting one."""

    def run(*flags: str, env: Mapping[str, str] | None = None) -> Result:
        unset: dict[str, str | None] = {
            name: None for name in os.environ if name.startswith("KEKD_")
        }
        return CliRunner().invoke(main, ["--print-config", *flags], env=unset | dict(env or {}))

    return run


def values(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    shown: dict[str, Any] = yaml.safe_load(result.stdout)
    return shown


def origins(result: Result) -> dict[str, str]:
    return {
        name: origin for origin, name in re.findall(r"^# (.+)\n(\w+):", result.stdout, re.MULTILINE)
    }


def problems(result: Result) -> list[str]:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr.removeprefix("kekd: ").splitlines()


def test_examples_cover_every_setting() -> None:
    assert EXAMPLES.keys() == Settings.model_fields.keys() - FILE_ONLY


def test_help_lists_every_flag() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    flags = set(re.findall(r"^  (?:-h, )?--([a-z0-9-]+)", text, re.MULTILINE))
    settings = {name.replace("_", "-") for name in Settings.model_fields.keys() - FILE_ONLY}
    assert flags == settings | {"config", "print-config", "version", "help"}


def test_no_settings_give_the_defaults(print_config: PrintConfig) -> None:
    result = print_config(env={"XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "/state"})
    assert set(origins(result).values()) == {"default"}
    assert values(result) == {
        "listen": ["unix:/run/user/7/kekd/kekd.sock", "127.0.0.1:7535"],
        "engine": "auto",
        "workers": 1,
        "disk": ["/state/kekd/keystore"],
        "create_stores": True,
        "memory": False,
        "s3": [],
        "s3_addressing_style": "auto",
        "s3_poll": 300.0,
        "history_versions": 10,
        "history_days": 30.0,
        "history_on_failure": "deny",
        "max_calls": 1000,
        "max_burst": 100,
        "ready_answers": True,
        "take_over": False,
        "log_format": "text",
        "log_level": "info",
        "shutdown_grace": 10.0,
    }


def test_create_stores_defaults_to_true_for_the_default_store_only(
    print_config: PrintConfig,
) -> None:
    assert values(print_config("--disk=/k"))["create_stores"] is False
    assert values(print_config("--memory"))["create_stores"] is False
    assert values(print_config("--no-create-stores"))["create_stores"] is False
    assert values(print_config())["create_stores"] is True


@pytest.mark.parametrize("name", EXAMPLES)
def test_flag_overrides_variable_overrides_file_overrides_default(
    print_config: PrintConfig, file: Path, name: str
) -> None:
    example, variable = EXAMPLES[name], f"KEKD_{name.upper()}"
    default = values(print_config("--disk=/default")).get(name)
    file.write_text(yaml.safe_dump({name: example.in_file}))
    config, env = ("--config", str(file)), {variable: example.variable}
    results = (
        print_config(*config, *beside(name)),
        print_config(*config, *beside(name), env=env),
        print_config(*config, *beside(name), *example.flags, env=env),
    )
    assert default != example.in_file
    assert [(values(result)[name], origins(result)[name]) for result in results] == [
        (example.in_file, str(file)),
        (example.from_variable, variable),
        (example.from_flags, example.flags[0]),
    ]


def test_settings_of_different_origins_are_merged(print_config: PrintConfig, file: Path) -> None:
    file.write_text("memory: true\nlog_format: json")
    result = print_config("--config", str(file), "--disk=/flag", env={"KEKD_SHUTDOWN_GRACE": "3"})
    assert origins(result) == {
        "listen": "default",
        "engine": "default",
        "workers": "default",
        "disk": "--disk",
        "create_stores": "default",
        "memory": str(file),
        "s3": "default",
        "s3_addressing_style": "default",
        "s3_poll": "default",
        "history_versions": "default",
        "history_days": "default",
        "history_on_failure": "default",
        "max_calls": "default",
        "max_burst": "default",
        "ready_answers": "default",
        "take_over": "default",
        "log_format": str(file),
        "log_level": "default",
        "shutdown_grace": "KEKD_SHUTDOWN_GRACE",
    }


def test_kekd_config_names_the_file(print_config: PrintConfig, file: Path) -> None:
    file.write_text("memory: true")
    assert values(print_config(env={"KEKD_CONFIG": str(file)}))["memory"] is True


@pytest.mark.parametrize(
    "flags", [[], *([*beside(name), *example.flags] for name, example in EXAMPLES.items())]
)
def test_printed_config_is_a_file_with_the_same_settings(
    print_config: PrintConfig, file: Path, flags: list[str]
) -> None:
    printed = print_config(*flags)
    file.write_text(printed.stdout)
    again = print_config("--config", str(file))
    assert values(again) == values(printed)
    assert set(origins(again).values()) == {str(file)}


def test_printed_config_has_every_setting(print_config: PrintConfig, file: Path) -> None:
    file.write_text("memory: true\nmax_rate: null\naudit: /log")
    printed = print_config("--config", str(file)).stdout
    assert re.findall(r"^(?:# )?(\w+):", printed, re.MULTILINE) == list(Settings.model_fields)
    assert "# default\n# tls_cert: null\n" in printed
    assert f"# {file}\n# max_rate: null\n" in printed
    assert f"# {file}\naudit: /log\n" in printed


def test_file_with_several_buckets_is_accepted(print_config: PrintConfig, file: Path) -> None:
    file.write_text(
        """
        s3_region: eu-west-1
        s3:
          - one/prefix
          - {bucket: two, endpoint: "http://minio:9000"}
          - {bucket: two, region: eu-north-1, prefix: a/b}
        """
    )
    assert values(print_config("--config", str(file)))["s3"] == [
        {"bucket": "one", "prefix": "prefix", "region": "eu-west-1"},
        {"bucket": "two", "prefix": "", "region": "eu-west-1", "endpoint": "http://minio:9000"},
        {"bucket": "two", "prefix": "a/b", "region": "eu-north-1"},
    ]


def test_relative_path_becomes_absolute(print_config: PrintConfig) -> None:
    shown = values(print_config("--disk", "keystore", "--disk", "~/own", "--listen", "unix:s"))
    assert shown["disk"] == [str(Path("keystore").absolute()), str(Path("~/own").expanduser())]
    assert shown["listen"] == [f"unix:{Path('s').absolute()}"]


def test_variables_of_a_kubernetes_service_are_ignored(print_config: PrintConfig) -> None:
    service = {
        "KEKD_PORT": "tcp://10.0.0.7:7535",
        "KEKD_PORT_7535_TCP": "tcp://10.0.0.7:7535",
        "KEKD_SERVICE_HOST": "10.0.0.7",
        "KEKD_SERVICE_PORT": "7535",
    }
    assert print_config(env=service).stdout == print_config().stdout


@pytest.mark.parametrize(
    "name",
    [
        "KEKD_SERVICE_PORT_GRPC",
        "KEKD_PORT_7535_TCP_ADDR",
        "KEKD_METRICS_PORT",
        "KEKD_METRICS_SERVICE_HOST",
        "KEKD_ADDRESS",
        "KEKD_CA",
        "KEKD_REGISTRY",
        "kekd_server_name",
    ],
)
def test_variable_of_kubernetes_or_a_client_is_accepted(
    print_config: PrintConfig, name: str
) -> None:
    assert print_config(env={name: "value"}).exit_code == 0


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("KEKD_LISTNE", "did you mean KEKD_LISTEN? Correct or unset it"),
        ("kekd_log_levle", "did you mean KEKD_LOG_LEVEL? Correct or unset it"),
        ("KEKD_PORTS", "unset it"),
        ("KEKD_COLOUR", "unset it"),
    ],
)
def test_unknown_variable_is_refused_with_a_suggestion(
    print_config: PrintConfig, name: str, advice: str
) -> None:
    assert problems(print_config("--workers=0", env={name: "value"})) == [
        f"{name} (from the environment): unknown variable; {advice}",
        "workers (from --workers): out of range; use 1 or more",
    ]
    assert print_config(env={name: ""}).exit_code == 0


def test_every_variable_of_kekctl_is_known_to_the_daemon(print_config: PrintConfig) -> None:
    text = (Path(__file__).parents[1] / "texts/help.txt").read_text()
    variables = set(re.findall(r"KEKD_[A-Z_]+\b", text))
    assert variables >= {"KEKD_ADDRESS", "KEKD_REGISTRY"}
    for problem in print_config(env=dict.fromkeys(variables, "1")).stderr.splitlines():
        assert "unknown variable" not in problem


@pytest.mark.parametrize("value", ["s", "5 m", "-5m", "5mm", "1h30", "5M", "nans"])
def test_invalid_duration_is_refused(print_config: PrintConfig, value: str) -> None:
    (problem,) = problems(print_config(f"--s3-poll={value}"))
    assert problem.partition(": ")[2].startswith("not a duration; write one such as 45s")


def test_variable_with_json_is_parsed(print_config: PrintConfig) -> None:
    rule = {
        "name": "r",
        "identities": ["listener:unix"],
        "stores": ["*"],
        "indexes": ["*"],
        "methods": ["read"],
    }
    audit = {"file": "/a", "on_failure": "deny"}
    shown = values(
        print_config(env={"KEKD_POLICY": json.dumps([rule]), "KEKD_AUDIT": json.dumps(audit)})
    )
    assert shown["audit"] == audit
    assert shown["policy"] == [rule]


def test_variable_in_lower_case_is_accepted(print_config: PrintConfig) -> None:
    assert values(print_config(env={"kekd_log_format": "json"}))["log_format"] == "json"


def test_empty_variable_is_ignored(print_config: PrintConfig) -> None:
    assert print_config(env={"KEKD_LISTEN": "", "KEKD_MEMORY": ""}).stdout == print_config().stdout


def test_several_problems_are_reported_together_with_their_origins(
    print_config: PrintConfig, file: Path
) -> None:
    file.write_text("memory: perhaps\ns3: [ab, {bucket: abc, regoin: x}]\nlisten: 7535\nunknown: 1")
    env = {"KEKD_LISTEN": "10.0.0.7:0,nonsense", "KEKD_LOG_FORMAT": "xml"}
    reported = problems(print_config("--config", str(file), "--shutdown-grace=-1", env=env))
    assert [problem.partition(": ")[0] for problem in reported] == [
        "listen.0 (from KEKD_LISTEN)",
        "listen.1 (from KEKD_LISTEN)",
        f"memory (from {file})",
        f"s3.0.bucket (from {file})",
        f"s3.1.regoin (from {file})",
        "log_format (from KEKD_LOG_FORMAT)",
        "shutdown_grace (from --shutdown-grace)",
        f"unknown (from {file})",
    ]


def test_invalid_flag_hides_no_other_problem(print_config: PrintConfig) -> None:
    flags = ("--listen=0.0.0.0:1", "--listen=foo", "--log-format=xml", "--shutdown-grace=long")
    assert [problem.partition(": ")[0] for problem in problems(print_config(*flags))] == [
        "listen.0 (from --listen)",
        "listen.1 (from --listen)",
        "log_format (from --log-format)",
        "shutdown_grace (from --shutdown-grace)",
    ]


@pytest.mark.parametrize("content", [None, "listen: ["])
def test_unreadable_file_hides_no_other_problem(
    print_config: PrintConfig, file: Path, content: str | None
) -> None:
    if content:
        file.write_text(content)
    # The file may have what --listen and --tls-cert require.
    flags = ("--listen=0.0.0.0:1", "--listen=foo", "--tls-cert=/c", "--workers=0")
    assert [
        problem.partition(": ")[0]
        for problem in problems(print_config("--config", str(file), *flags))
    ] == [str(file), "listen.1 (from --listen)", "workers (from --workers)"]


WRONG_VALUES: tuple[Any, ...] = (
    *([], {}, [[1]], [{}], {"a": 1}, [{"a": 1}], [{1: 2}], "", "x y", "x" * 9000, True, None),
    *(1.5, -1, 10**400, float("nan"), float("inf"), dt.date(2026, 1, 31)),
    *({"file": 1}, {"file": "/a", "on_failure": 1}, {"file": "/a", "on_failure": "x"}),
    *([{"address": value, "role": value, "engine": value}] for value in (1, "", "unix:/s")),
    *([{"bucket": value, "prefix": value, "endpoint": value}] for value in (1, "", "abc")),
    *(
        [{"name": value, "identities": value, "methods": value, "indexes": [value]}]
        for value in (1, "", "x", [], [1])
    ),
)
PYDANTIC = re.compile(r"Input|Field|Value error|should|validation|class_name")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_value_of_a_wrong_type_is_described_without_pydantics_terms(
    print_config: PrintConfig, file: Path, name: str
) -> None:
    found = []
    for value in WRONG_VALUES:
        file.write_text(yaml.safe_dump({name: value}))
        result = print_config("--config", str(file))
        found += problems(result) if result.exit_code else []
    assert found
    for problem in found:
        assert re.fullmatch(r"([\w.]+ \(from .+?\)|/\S+): [^;]+; [^;]+", problem), problem
        assert not PYDANTIC.search(problem.replace(str(file), "")), problem
        assert UNDESCRIBED not in problem


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("listen: [", "YAML: line 1: a value is missing, or a list or mapping isn't closed; write"),
        ("a: b: c", "YAML: line 1: a second ': ' or a wrong indentation; quote the value"),
        ('a: 1\nworkers: !!int ""', "YAML: line 2: a value that its type doesn't allow; correct"),
        ("audit: !!timestamp foo", "YAML: line 1: a value that its type doesn't allow; correct"),
        ("a: 1\nb: 2024-13-45", "YAML: line 2: a value that its type doesn't allow; correct or"),
        ("a: !secret x", "YAML: line 1: an unknown tag; remove it, or quote the value"),
        ("? [a]\n: b", "YAML: line 1: a list or mapping as a key; write a text"),
        ("a:\n\tb: 1", "YAML: line 2: a tab in the indentation; use spaces"),
        ("a: 'b", "YAML: line 1: a quoted text isn't closed; add the quote"),
        ("a: *b", "YAML: line 1: an alias without its anchor; write the value"),
        ("a: 1\n---\nb: 1", "YAML: line 2: more than one document; remove '---'"),
        ("a: \x01", "YAML: a character that YAML doesn't allow; remove it"),
        ("a: 1\n\udcff", "YAML: line 2: not text in UTF-8; give a YAML file"),
        ("listen: [5]", "listen.0 (from {file}): neither an address nor a mapping; write one such"),
        ("metrics: 5", "metrics (from {file}): neither an address nor a mapping; write one such"),
        ("max_calll: 5", "unknown key; did you mean max_calls? Correct or remove it"),
        ("listen: [{adress: a}]", "unknown key; did you mean address? Correct or remove it"),
        ("s3: [{regoin: a}]", "unknown key; did you mean region? Correct or remove it"),
        ("disk: [{pat: a}]", "unknown key; did you mean path? Correct or remove it"),
        (
            "disk: [{path: /a, history: {version: 1}}]",
            "unknown key; did you mean versions? Correct or remove it",
        ),
        ("audit: {fil: a}", "unknown key; did you mean file? Correct or remove it"),
        ("policy: [{identites: a}]", "unknown key; did you mean identities? Correct or remove it"),
        ("nothing_like: 5", "unknown key; correct or remove it"),
        ("log_level: loud", "unknown value 'loud'; use 'debug', 'info', 'warning' or 'error'"),
        ("- memory", "not a mapping; write settings such as 'memory: true'"),
        ("memory", "not a mapping; write settings such as 'memory: true'"),
        ("kekd: {memory: true}", "kekd (from"),
        ("on: true", "True (from"),
        ("1: true", "1 (from"),
    ],
)
def test_invalid_file_is_reported_with_its_name(
    print_config: PrintConfig, file: Path, content: str, says: str
) -> None:
    file.write_text(content, errors="surrogateescape")
    reported = "\n".join(problems(print_config("--config", str(file))))
    assert says.format(file=file) in reported
    assert str(file) in reported


def test_missing_file_is_reported_with_its_name(print_config: PrintConfig, file: Path) -> None:
    assert problems(print_config("--config", str(file))) == [
        f"{file}: cannot be read: No such file or directory; check its path and mode"
    ]


def test_log_level_ignores_case(print_config: PrintConfig) -> None:
    assert values(print_config("--log-level", "INFO"))["log_level"] == "info"


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:7535",
        "[::]:7535",
        ":7535",
        "192.168.1.7:7535",
        "[2001:db8::1]:7535",
        "kekd.example.com:7535",
        "localhost.example.com:7535",
    ],
)
def test_address_outside_loopback_without_tls_is_rejected(
    print_config: PrintConfig, address: str
) -> None:
    (problem,) = problems(print_config("--listen", address))
    assert problem == (
        f"listen.0 (from --listen): '{address}' is not a loopback address, and has no TLS; set"
        " --tls-cert, --tls-key and --tls-client-ca, or listen on a Unix socket or on 127.0.0.1"
    )


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.8.9.10:65535", "[::1]:7535", "localhost:7535", "unix:/s"]
)
def test_loopback_address_without_tls_is_accepted(print_config: PrintConfig, address: str) -> None:
    assert values(print_config("--listen", address))["listen"] == [address]


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:-1", "localhost:grpc", "[::1]"],
)
def test_invalid_address_is_rejected(print_config: PrintConfig, address: str) -> None:
    (problem,) = problems(print_config("--listen", address))
    assert f"invalid address '{address}'; use unix:PATH, HOST:PORT or [IPV6]:PORT" in problem


def test_metrics_address_with_tls_is_printed_as_a_mapping(
    print_config: PrintConfig, file: Path
) -> None:
    metrics = {"address": "127.0.0.1:1", "tls_cert": "/c", "tls_key": "/k"}
    assert values(print_config(env={"KEKD_METRICS": json.dumps(metrics)}))["metrics"] == metrics
    file.write_text(yaml.safe_dump({"metrics": metrics}))
    assert values(print_config("--config", str(file)))["metrics"] == metrics


@pytest.mark.parametrize(
    ("metrics", "problem"),
    [
        ({"address": "unix:/s"}, "metrics (from {file}): invalid address 'unix:/s'; use HOST:PORT"),
        ({"address": "a:1", "tls_cert": "/c"}, "tls_key required by tls_cert; set both"),
        ({"address": "a:1", "tls_key": "/k"}, "tls_key requires tls_cert; set both"),
        (
            {"address": "a:1", "tls_client_ca": "/a"},
            "tls_client_ca requires tls_cert and tls_key; set them",
        ),
    ],
)
def test_invalid_metrics_mapping_is_rejected(
    print_config: PrintConfig, file: Path, metrics: dict[str, str], problem: str
) -> None:
    file.write_text(yaml.safe_dump({"metrics": metrics}))
    (found,) = problems(print_config("--config", str(file)))
    assert problem.format(file=file) in found


@pytest.mark.parametrize("address", ["unix:/s", "127.0.0.1", "127.0.0.1:0"])
def test_invalid_metrics_address_is_rejected(print_config: PrintConfig, address: str) -> None:
    (problem,) = problems(print_config("--metrics", address))
    assert problem == (
        f"metrics (from --metrics): invalid address '{address}'; use HOST:PORT or [IPV6]:PORT,"
        " with a port from 1 to 65535"
    )


@pytest.mark.parametrize("address", ["unix:", "unix://"])
def test_socket_without_a_path_is_rejected(print_config: PrintConfig, address: str) -> None:
    assert problems(print_config("--listen", address)) == [
        "listen.0 (from --listen): invalid address 'unix:': no path; write unix:PATH"
    ]


@pytest.mark.parametrize("letter", ["x", "é"])
def test_socket_path_of_108_bytes_is_rejected(print_config: PrintConfig, letter: str) -> None:
    longest = "unix:/" + letter * (106 // len(letter.encode()))
    assert values(print_config("--listen", longest))["listen"] == [longest]
    (problem,) = problems(print_config("--listen", f"{longest}{letter}"))
    assert problem.endswith("is too long for a socket; use at most 107 bytes")


@pytest.mark.parametrize(
    "flags",
    [
        ["--listen=unix:/s", "--listen=unix:///s"],
        ["--listen=localhost:7", "--listen=localhost:7"],
        ["--disk=/a", "--disk=/a/"],
        ["--disk=/a", "--disk=/b/../a"],
        ["--s3=bucket/a", "--s3=bucket/a"],
        ["--s3=bucket/a", "--s3=bucket/a/"],
    ],
)
def test_duplicate_value_is_rejected(print_config: PrintConfig, flags: list[str]) -> None:
    (problem,) = problems(print_config(*flags))
    assert re.fullmatch(
        r"\w+ \(from --\w+\): '.+' is (given twice|the same folder as '.+'); remove one", problem
    )


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (
            "~nobody-of-that-name/x",
            "'~nobody-of-that-name/x' has no absolute form; write the whole path",
        ),
        ("/k\udcff", r"'/k\udcff' has unprintable characters; use another path"),
        ("/a\nb", r"'/a\nb' has unprintable characters; use another path"),
    ],
)
def test_invalid_path_is_rejected(print_config: PrintConfig, path: str, says: str) -> None:
    assert problems(print_config(f"--disk={path}")) == [f"disk.0.path (from --disk): {says}"]


def test_path_with_dots_after_a_link_is_rejected(print_config: PrintConfig, tmp_path: Path) -> None:
    (tmp_path / "mnt" / "v2").mkdir(parents=True)
    (tmp_path / "current").symlink_to("mnt/v2")
    path, real = f"{tmp_path}/current/../keystore", f"{tmp_path}/mnt/keystore"
    assert problems(print_config(f"--disk={path}")) == [
        f"disk.0.path (from --disk): '{path}' has '..' after a symbolic link; write {real}"
    ]


def test_duplicate_folder_through_a_link_is_rejected(
    print_config: PrintConfig, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("real")
    (problem,) = problems(print_config(f"--disk={tmp_path}/real", f"--disk={tmp_path}/link"))
    assert problem == (
        f"disk (from --disk): '{tmp_path}/link' is the same folder as '{tmp_path}/real'; remove one"
    )


@pytest.mark.parametrize("grace", ["-1", "3601", "nan"])
def test_shutdown_grace_outside_0_to_3600_is_rejected(
    print_config: PrintConfig, grace: str
) -> None:
    (problem,) = problems(print_config("--shutdown-grace", grace))
    assert problem.startswith("shutdown_grace (from --shutdown-grace): ")


@pytest.mark.parametrize("workers", ["0", "65", "two", "1.5"])
def test_workers_outside_1_to_64_are_rejected(print_config: PrintConfig, workers: str) -> None:
    (problem,) = problems(print_config("--workers", workers))
    assert problem.startswith("workers (from --workers): ")


def test_memory_store_with_workers_is_reported_with_other_problems(
    print_config: PrintConfig,
) -> None:
    flags = ("--workers=2", "--memory", "--log-format=xml")
    memory, log_format = problems(print_config(*flags))
    assert memory == (
        "memory (from --memory): workers don't share memory; use workers=1 or another store"
    )
    assert log_format.startswith("log_format (from --log-format): ")


def test_take_over_with_workers_is_rejected(print_config: PrintConfig) -> None:
    (problem,) = problems(print_config("--workers=2", "--take-over"))
    assert problem == (
        "take_over (from --take-over): workers start only when the addresses are free; use"
        " workers=1"
    )


def test_take_over_without_a_socket_is_rejected(print_config: PrintConfig) -> None:
    (problem,) = problems(print_config("--listen=[::1]:7", "--take-over"))
    assert problem == (
        "take_over (from --take-over): the other daemon is found by its Unix socket; listen on its"
        " unix:PATH"
    )
    assert values(print_config("--listen=[::1]:7", "--listen=unix:/s", "--take-over"))
    assert values(print_config("--listen=[::1]:7", "--no-take-over"))


def test_workers_without_a_tcp_address_are_rejected(print_config: PrintConfig) -> None:
    (problem,) = problems(print_config("--workers=2", "--listen=unix:/s", "--listen=unix:/t"))
    assert problem == (
        "workers (from --workers): only one process can serve a Unix socket; listen on HOST:PORT as"
        " well"
    )
    assert values(print_config("--workers=2", "--listen=unix:/s", "--listen=[::1]:7"))


def test_invalid_settings_exit_with_2_and_create_nothing(tmp_path: Path) -> None:
    flags = ["--disk", "keystore", "--listen", "unix:folder/s", "--listen", "0.0.0.0:1"]
    done = subprocess.run(
        [BIN / "kekd", *flags],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("kekd: listen.1 (from --listen): '0.0.0.0:1' is not a loopback")
    assert list(tmp_path.iterdir()) == []
