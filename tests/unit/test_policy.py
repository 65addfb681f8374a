"""The evaluation of policy rules, and the policies that are rejected."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kekd_common.policy import METHODS, Method, PolicyError, Rule, evaluate, read

RULES = [
    Rule(name="service", identities=("spiffe://prod/ns/*/sa/db",), methods=("read", "watch")),
    Rule(
        name="tenant a",
        identities=("dns:a.example",),
        methods=("*",),
        stores=("disk:/a",),
        indexes=("a-*", "shared"),
    ),
    Rule(name="any of a", identities=("dns:?.example",), methods=("list",)),
    Rule(name="careful", identities=("cn:careful",), methods=("delete-if-match",)),
    Rule(name="operator", identities=("listener:operator",), methods=("delete", "create")),
]


@pytest.mark.parametrize(
    ("identity", "method", "store", "index", "decided"),
    [
        ("spiffe://prod/ns/x/sa/db", "read", "memory", "i", "service"),
        ("spiffe://prod/ns/x/y/sa/db", "read", "memory", "i", "service"),  # * matches slashes too
        ("spiffe://prod/ns/x/sa/db", "watch", "memory", None, "service"),
        ("spiffe://prod/ns/x/sa/db", "push", "memory", "i", None),
        ("spiffe://prod/ns/x/sa/db2", "read", "memory", "i", None),
        ("xspiffe://prod/ns/x/sa/db", "read", "memory", "i", None),
        ("SPIFFE://prod/ns/x/sa/db", "read", "memory", "i", None),
        ("dns:a.example", "read", "disk:/a", "a-1", "tenant a"),
        ("dns:a.example", "delete", "disk:/a", "shared", "tenant a"),
        ("dns:a.example", "read", "disk:/a", "A-1", None),
        ("dns:a.example", "read", "disk:/a", "b-1", None),
        ("dns:a.example", "read", "disk:/b", "a-1", None),
        ("dns:a.example", "list", "disk:/a", None, "tenant a"),
        ("dns:a.example", "list", "disk:/a", "b-1", "any of a"),  # one rule that allows is enough
        ("dns:b.example", "list", "disk:/b", None, "any of a"),
        ("dns:a.example", "read", None, "a-1", "tenant a"),
        ("dns:bb.example", "list", "disk:/b", None, None),
        ("email:a.example", "read", "disk:/a", "a-1", None),
        ("cn:careful", "delete-if-match", "memory", "i", "careful"),
        ("cn:careful", "delete", "memory", "i", None),
        ("listener:operator", "delete", "memory", "i", "operator"),
        ("listener:operator", "delete-if-match", "memory", "i", "operator"),  # implied
        ("listener:operator", "create", "memory", "i", "operator"),
        ("listener:operator", "push", "memory", "i", None),
        ("", "read", "memory", "i", None),
    ],
)
def test_first_matching_rule_decides(
    identity: str, method: Method, store: str | None, index: str | None, decided: str | None
) -> None:
    rule = evaluate(RULES, identity, method, store, index)
    assert (rule.name if rule else None) == decided


@pytest.mark.parametrize("method", METHODS)
def test_empty_policy_denies_every_method(method: Method) -> None:
    assert evaluate([], "listener:unix", method, "memory", "i") is None


@pytest.mark.parametrize("method", METHODS)
def test_star_does_not_include_protection_and_destruction(method: Method) -> None:
    allowed = evaluate([RULES[1]], "dns:a.example", method, "disk:/a", "a-1")
    assert (allowed is None) == (method in ("destroy", "hold", "import-history", "release"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kekd.yaml"


def written(file: Path, *rules: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump({"memory": True, "policy": list(rules)}))
    return file


RULE = {"name": "r", "identities": "cn:a", "methods": ["read"]}


def test_single_glob_is_accepted_without_a_list(file: Path) -> None:
    read_back = read(written(file, RULE))
    assert read_back == (Rule(name="r", identities=("cn:a",), methods=("read",)),)


def test_file_without_a_policy_has_none(file: Path) -> None:
    file.write_text("memory: true")
    assert read(file) is None
    file.write_text("")
    assert read(file) is None


def test_policy_without_rules_is_a_policy(file: Path) -> None:
    assert read(written(file)) == ()


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (RULE | {"identitys": ["x"]}, "policy.0.identitys: unknown key"),
        (RULE | {"methods": ["raed"]}, "policy.0.methods.0"),
        (RULE | {"methods": []}, "policy.0.methods"),
        (RULE | {"identities": []}, "policy.0.identities"),
        (RULE | {"identities": [""]}, "policy.0.identities.0"),
        (RULE | {"indexes": [7]}, "policy.0.indexes.0"),
        ({"identities": ["cn:a"], "methods": ["read"]}, "policy.0.name: missing; add it"),
    ],
)
def test_unknown_key_is_reported(file: Path, rule: dict[str, Any], problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read(written(file, rule))
    assert any(text.startswith(f"{file}: {problem}") for text in caught.value.problems)


def test_all_problems_are_reported_together(file: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        read(written(file, RULE | {"x": 1}, RULE | {"methods": "y", "name": ""}))
    assert len(caught.value.problems) >= 3


def test_two_rules_of_one_name_are_refused(file: Path) -> None:
    with pytest.raises(PolicyError, match="two rules are named 'r'"):
        read(written(file, RULE, RULE))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("policy:\n  # - {name: x}\n", "no rules"),
        ("policy: []\npolicy: []\n", "duplicate key 'policy'"),
        ("policy: [{name: a, name: b}]", "duplicate key 'name'"),
        (
            "policy: [{name: 2026-02-30, identities: x, methods: read}]",
            "line 1: a value that its type",
        ),
        ("policy: " + "[" * 10_000, "cannot be read as YAML"),
    ],
)
def test_ambiguous_yaml_is_refused(file: Path, text: str, problem: str) -> None:
    file.write_text(text)
    with pytest.raises(PolicyError, match=problem):
        read(file)


@pytest.mark.parametrize("text", ["[", "policy: 7", "policy: {a: b}", "\0", "- a"])
def test_invalid_policy_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(PolicyError, match=r"kekd\.yaml"):
        read(file)


def test_missing_file_is_reported(file: Path) -> None:
    with pytest.raises(PolicyError, match="No such file"):
        read(file)
