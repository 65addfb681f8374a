"""kekctl policy shows a daemon's decisions and the rules behind them."""

from pathlib import Path

import pytest
import yaml
from click.testing import Result

from tests.fixtures.kekctl import kekctl

RULES = [
    {"name": "readers", "identities": "dns:*.example", "methods": ["read", "list"]},
    {"name": "\x1b[31mred", "identities": "cn:red", "methods": "*", "stores": "memory"},
]


def check(file: Path, *flags: str, code: int = 0) -> Result:
    return kekctl("policy", "check", "--config", file, *flags, code=code)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "kekd.yaml"
    file.write_text(yaml.safe_dump({"memory": True, "policy": RULES}))
    return file


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ("--identity dns:db.example --method read --index i", 0, "allowed by rule readers\n"),
        ("--identity dns:db.example --method list", 0, "allowed by rule readers\n"),
        ("--identity dns:db.example --method push --index i", 7, "denied: none of the 2 rules"),
        ("--identity cn:red --method push --store disk:/x", 7, "denied: none of the 2 rules"),
        ("--identity cn:red --method push --store memory", 0, r"allowed by rule "),
        ("--identity cn:red --method push", 0, r"allowed by rule \x1b[31mred"),
    ],
)
def test_check_reports_the_deciding_rule(file: Path, flags: str, code: int, said: str) -> None:
    assert check(file, *flags.split(), code=code).stdout.startswith(said)


def test_store_of_a_check_can_come_before_the_command(file: Path) -> None:
    words = ["policy", "check", "--config", file, "--identity", "cn:red", "--method", "push"]
    for store, code in (("memory", 0), ("disk:/x", 7)):
        kekctl("--store", store, *words, code=code)


def test_check_without_a_policy_reports_the_defaults(file: Path) -> None:
    file.write_text("memory: true")
    for identity, code in (("listener:unix", 0), ("cn:x", 2)):
        done = check(file, "--identity", identity, "--method", "read", code=code)
        assert done.stdout == "no policy: local listeners allow every call, others none\n"


def test_problems_of_a_policy_are_reported(file: Path) -> None:
    file.write_text("policy: [{name: x}]")
    done = check(file, "--identity", "cn:x", "--method", "read", code=2)
    assert "policy.0.identities: missing; add it" in done.stderr
    assert "policy.0.methods: missing; add it" in done.stderr
