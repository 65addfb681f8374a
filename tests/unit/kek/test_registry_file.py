"""The YAML that `Registry.from_yaml` reads, compared with CyborgDB Service's own loader."""

import traceback
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from cyborgdb_service.kms.config import load_kms_registry  # type: ignore[import-untyped]

from kekd.kek import Registry, Slot
from kekd.kek.errors import RegistryError
from tests.unit.kek.chains import chain

KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ROLE = "arn:aws:iam::222233334444:role/kekd"
SHARED = ("provider", "key_id", "region", "role_arn", "external_id", "role_session_name")
"""The keys of a slot that CyborgDB Service reads. It rejects all others."""

FOR_BOTH = f"""
service:
  port: 8000
kms:
  registry:
    secret:
      provider: aws
      key_id: wrap-key
    prod:
      provider: aws-kms
      key_id: alias/${{STAGE:-prod}}
      region: ${{KEKD_TEST_REGION}}
    customer:
      provider: aws-kms
      key_id: {KEY}
      region: us-east-1
      role_arn: {ROLE}
      external_id: ${{KEKD_TEST_ID:-none}}-1
      role_session_name: kekd@example.com
    empty:
      provider: aws
      key_id: wrap-key
      region:
      role_arn:
"""

Write = Callable[[str], Path]
SlotsOf = Callable[[str], dict[str, Slot]]
ProblemsOf = Callable[[str], tuple[str, ...]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "cyborgdb.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def slots_of(write: Write) -> SlotsOf:
    return lambda text: Registry.from_yaml(write(text)).slots


@pytest.fixture
def problems_of(write: Write) -> ProblemsOf:
    """Returns the problems without the path before each."""

    def problems_of(text: str) -> tuple[str, ...]:
        path = write(text)
        with pytest.raises(RegistryError) as caught:
            Registry.from_yaml(path)
        problems = caught.value.problems
        assert problems == str(caught.value).splitlines()
        assert all(problem.startswith(f"{path}: ") for problem in problems)
        return tuple(problem.removeprefix(f"{path}: ") for problem in problems)

    return problems_of


def registry(**slots: str) -> str:
    """Returns a registry file with these slots, each given as the lines of its mapping."""
    text = "kms:\n  registry:\n"
    for name, lines in slots.items():
        text += f"    {name}:\n" + "".join(
            f"      {line}\n" for line in dedent(lines).strip().splitlines()
        )
    return text


GOOD = f"provider: aws-kms\nkey_id: {KEY}\n"


def test_every_key_of_a_slot_is_read(slots_of: SlotsOf) -> None:
    slots = slots_of(
        registry(
            prod=f"""
            provider: aws-kms
            key_id: {KEY}
            region: us-east-1
            role_arn: {ROLE}
            external_id: 4d6f-77
            role_session_name: billing
            endpoint_url: http://localhost:4566
            encryption_context: true
            allowed_key_arns: ['arn:aws:kms:us-east-1:111122223333:key/*', '{KEY}']
            """
        )
    )
    assert slots == {
        "prod": Slot(
            name="prod",
            provider="aws-kms",
            key_id=KEY,
            region="us-east-1",
            role_arn=ROLE,
            external_id="4d6f-77",
            role_session_name="billing",
            endpoint_url="http://localhost:4566",
            encryption_context=True,
            allowed_key_arns=("arn:aws:kms:us-east-1:111122223333:key/*", KEY),
        )
    }


def test_cyborgdb_service_reads_the_same_values(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEKD_TEST_REGION", "eu-central-1")
    path = write(FOR_BOTH)
    monkeypatch.setenv("CYBORGDB_CONFIG_FILE", str(path))
    ours = Registry.from_yaml(path).slots
    its = load_kms_registry()
    assert list(ours) == list(its) == ["secret", "prod", "customer", "empty"]
    for name, slot in ours.items():
        for key in SHARED:
            assert getattr(slot, key) == (getattr(its[name], key) or ""), (name, key)
    assert ours["prod"].key_id == "alias/prod"
    assert ours["prod"].region == "eu-central-1"
    assert ours["customer"].external_id == "none-1"


@pytest.mark.parametrize("text", ["${NAME}", "${NAME:-x}", "a${NAME:-}b", "${NAME:-x}-${NAME:-y}"])
@pytest.mark.parametrize("value", ["", "value", "${STAGE}", "a: b"])
def test_variables_expand_as_in_cyborgdb_service(
    write: Write, monkeypatch: pytest.MonkeyPatch, text: str, value: str
) -> None:
    monkeypatch.setenv("NAME", value)
    path = write(registry(prod=f"provider: aws\nkey_id: k{text}"))
    monkeypatch.setenv("CYBORGDB_CONFIG_FILE", str(path))
    try:
        its = load_kms_registry()["prod"].key_id
    except ValueError:
        with pytest.raises(RegistryError):
            Registry.from_yaml(path)
    else:
        assert Registry.from_yaml(path).slots["prod"].key_id == its


@pytest.mark.parametrize("text", ["$NAME", "${name}", "${1NAME}", "${}", "${NAME-x}"])
def test_text_without_a_variable_is_unchanged(slots_of: SlotsOf, text: str) -> None:
    slots = slots_of(registry(prod=f"provider: aws\nkey_id: 'k{text}'"))
    assert slots["prod"].key_id == f"k{text}"


@pytest.mark.parametrize("value", [None, ""])
def test_unset_or_empty_variable_is_a_problem(
    problems_of: ProblemsOf, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("KEKD_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("KEKD_TEST_KEY", value)
    (problem,) = problems_of(registry(prod="provider: aws\nkey_id: ${KEKD_TEST_KEY}"))
    assert problem.startswith("slot 'prod': variable KEKD_TEST_KEY is not set")


def test_variables_of_other_sections_are_ignored(slots_of: SlotsOf) -> None:
    assert slots_of("service:\n  api_key: ${KEKD_TEST_UNSET}\n" + registry(prod=GOOD))


def test_yaml_anchor_is_resolved(slots_of: SlotsOf) -> None:
    slots = slots_of(
        "kms:\n  registry:\n    a: &a {provider: aws, key_id: k}\n    b: {<<: *a, region: r}\n"
    )
    assert slots == {"a": Slot("a", "aws", "k"), "b": Slot("b", "aws", "k", "r")}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("kms: {registry: {a: {provider: aws, key_id: k}, a: {provider: aws, key_id: k}}}", "a"),
        ("kms: {registry: {a: {provider: aws, key_id: k, key_id: other}}}", "key_id"),
    ],
)
def test_duplicate_key_is_a_problem(problems_of: ProblemsOf, text: str, key: str) -> None:
    assert problems_of(text) == (f"line 1: duplicate key '{key}'; remove one",)


def test_empty_registry_is_valid(slots_of: SlotsOf) -> None:
    assert slots_of("kms: {registry: {}}") == {}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("key_id: k", "provider: missing; add it"),
        ("provider: aws", "key_id: missing; add it"),
        ("provider: aws\nkey_id: ''", "key_id: "),
        ("provider: aws\nkey_id:", "key_id: "),
        ("provider: gcp\nkey_id: k", "provider: "),
        ("provider: none\nkey_id: k", "provider: "),
        ("provider: AWS\nkey_id: k", "provider: "),
        ("provider: [aws]\nkey_id: k", "provider: "),
        ("provider: aws\nkey_id: 123", "key_id: "),
        ("provider: aws\nkey_id: [k]", "key_id: "),
        (f"{GOOD}region: 1", "region: "),
        (f"{GOOD}region: {{a: b}}", "region: "),
        (f"{GOOD}regoin: us-east-1", "regoin: unknown key"),
        (f"{GOOD}1: us-east-1", "1: not a string; write it in quotes"),
        (f"{GOOD}external_id: id", "external_id requires role_arn"),
        (f"{GOOD}role_arn: ''\nexternal_id: id", "external_id requires role_arn"),
        (f"{GOOD}role_arn: {ROLE}\nexternal_id: 12", "external_id: "),
        (f"{GOOD}region: eu-central-1", "key_id is in us-east-1, but region is eu-central-1"),
        (f"{GOOD}role_arn: kekd", "role_arn: not a role; use arn:aws:iam::ACCOUNT:role/NAME"),
        (f"{GOOD}role_arn: arn:aws:iam::2222:role/kekd", "role_arn: not a role"),
        (f"{GOOD}role_arn: arn:aws:iam::222233334444:user/kekd", "role_arn: not a role"),
        (f"{GOOD}role_arn: arn:aws:iam::222233334444:role/", "role_arn: not a role"),
        (f"{GOOD}role_session_name: a b", "role_session_name: "),
        (f"{GOOD}role_session_name: a", "role_session_name: "),
        (f"{GOOD}role_session_name: {'a' * 65}", "role_session_name: "),
        (f"{GOOD}endpoint_url: localhost:4566", "endpoint_url: "),
        (f"{GOOD}endpoint_url: 'file:///etc/passwd'", "endpoint_url: "),
        (f"{GOOD}encryption_context: maybe", "encryption_context: "),
        (f"{GOOD}encryption_context: 2", "encryption_context: "),
        (f"{GOOD}allowed_key_arns: {KEY}", "allowed_key_arns: "),
        (f"{GOOD}allowed_key_arns: []", "allowed_key_arns: "),
        (f"{GOOD}allowed_key_arns:", "allowed_key_arns: "),
        (f"{GOOD}allowed_key_arns: [1]", "allowed_key_arns.0: "),
        (f"{GOOD}allowed_key_arns: [null]", "allowed_key_arns.0: "),
        (f"{GOOD}allowed_key_arns: [arn:aws:kms:*:key/a]", "key_id isn't in allowed_key_arns"),
        (f"{GOOD}allowed_key_arns: ['']", "key_id isn't in allowed_key_arns"),
    ],
)
def test_invalid_slot_is_a_problem(problems_of: ProblemsOf, lines: str, problem: str) -> None:
    (found,) = problems_of(registry(prod=lines))
    assert found.startswith(f"slot 'prod': {problem}")


@pytest.mark.parametrize(
    "key_id", ["alias/prod", "arn:aws:kms:us-east-1:111122223333:alias/prod", "1234abcd"]
)
def test_alias_or_id_is_valid_with_allowed_key_arns(slots_of: SlotsOf, key_id: str) -> None:
    assert slots_of(
        registry(prod=f"provider: aws-kms\nkey_id: {key_id}\nallowed_key_arns: [{KEY}]")
    )


@pytest.mark.parametrize("content", ["aws", "", "[aws]", "12", "true"])
def test_slot_that_is_not_a_mapping_is_a_problem(problems_of: ProblemsOf, content: str) -> None:
    (problem,) = problems_of(f"kms:\n  registry:\n    prod: {content}\n")
    assert problem == "slot 'prod': not a mapping; use keys such as provider and key_id"


@pytest.mark.parametrize("name", ["1", "''", "true", "null", "1.5", "2024-01-01"])
def test_slot_name_that_is_not_a_string_is_a_problem(problems_of: ProblemsOf, name: str) -> None:
    (problem,) = problems_of(f"kms:\n  registry:\n    {name}: {{provider: aws, key_id: k}}\n")
    assert "isn't a string" in problem


def test_all_problems_of_all_slots_are_listed(problems_of: ProblemsOf) -> None:
    problems = problems_of(
        registry(
            good=GOOD,
            a="provider: gcp\nkey_id: ${KEKD_TEST_UNSET}\nregoin: x\nrole_arn: y",
            b="key_id: k\nregion: ${KEKD_TEST_UNSET}-${KEKD_TEST_UNSET_2}",
        )
        + "    c: []\n    4: {}\n"
    )
    assert sorted(problem.split(":")[0] for problem in problems) == (
        ["slot '" + name + "'" for name in "aaaabbbc"] + ["slot 4"]
    )
    for name in ("provider", "KEKD_TEST_UNSET ", "regoin", "role_arn", "KEKD_TEST_UNSET_2"):
        assert any(name in problem for problem in problems)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "text",
        "12",
        "null",
        "[]",
        "- kms\n",
        "{}",
        "kms:\n",
        "kms: text\n",
        "kms: []\n",
        "kms: {}\n",
        "kms: {registry: }\n",
        "kms: {registry: text}\n",
        "kms: {registry: [prod]}\n",
        "kms: {Registry: {}}\n",
        "registry: {}\n",
    ],
)
def test_file_without_a_registry_is_a_problem(problems_of: ProblemsOf, text: str) -> None:
    assert problems_of(text) == ("no slots found; add a mapping of slots under kms.registry",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kms:\n\tregistry: {}\n", "line 2: a tab in the indentation"),
        ("kms: {\n", "line 2: a value is missing, or a list"),
        ("kms: 'a\n", "line 2: a quoted text isn't closed"),
        ("a: b: c\n", "line 1: a second ': ' or a wrong indentation"),
        ("kms: *nowhere\n", "line 1: an alias without its anchor"),
        ("kms: !!python/object:os.system {}\n", "line 1: an unknown tag"),
        ("{[]: 1}: 2\n", "line 1: a list or mapping as a key"),
        ("a: 1\n---\nb: 2\n", "line 2: more than one document"),
        ("a: \0\n", "a character that YAML doesn't allow"),
    ],
)
def test_invalid_yaml_is_a_problem(problems_of: ProblemsOf, text: str, problem: str) -> None:
    (found,) = problems_of(text)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"\x7fELF\x02\x01\x01\x00", bytes(range(256))]
)
def test_binary_file_is_a_problem(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "binary"
    path.write_bytes(content)
    with pytest.raises(RegistryError) as caught:
        Registry.from_yaml(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["a: 2024-13-45\n", "a: 0b_\n", "a: 0x_\n", "[" * 3000, f"a: {'9' * 5000}\n"],
    ids=["date", "binary number", "hex number", "depth", "long number"],
)
def test_yaml_that_crashes_pyyaml_is_a_problem(problems_of: ProblemsOf, text: str) -> None:
    assert problems_of(text)


def test_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    for path, problem in [
        (tmp_path / "missing", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "missing" / "file", "No such file or directory"),
    ]:
        with pytest.raises(RegistryError) as caught:
            Registry.from_yaml(path)
        assert (
            str(caught.value) == f"{path}: cannot read the file: {problem}; check its path and mode"
        )


def test_path_can_be_a_string(write: Write) -> None:
    assert list(Registry.from_yaml(str(write(registry(prod=GOOD)))).slots) == ["prod"]


CANARY = "canary-4d6f77"


@pytest.mark.parametrize(
    "text",
    [
        registry(prod=f"{GOOD}external_id: {CANARY}"),
        registry(prod=f"{GOOD}external_id: [{CANARY}]"),
        registry(prod=f"{GOOD}role_arn: {CANARY}"),
        registry(prod=f"{GOOD}encryption_context: {CANARY}"),
        registry(prod=f"{GOOD}endpoint_url: {CANARY}"),
        registry(prod=f"provider: {CANARY}\nkey_id: k"),
        registry(prod=f"{GOOD}external_id: ${{SECRET}}"),
        registry(prod=f"{GOOD}endpoint_url: ${{SECRET}}"),
        registry(prod=CANARY),
        f"service: {{api_key: {CANARY}}}\n",
        f"{CANARY}\n",
    ],
)
def test_problem_does_not_contain_the_value(
    write: Write, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SECRET", CANARY)
    with pytest.raises(RegistryError) as caught:
        Registry.from_yaml(write(text))
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert CANARY not in "".join(f"{cause!r}{cause}{vars(cause)}" for cause in chain(caught.value))


@pytest.mark.parametrize(
    "text", [f"service:\n  api_key: {CANARY}: x\n", f"service:\n  api_key: '{CANARY}\n"]
)
def test_yaml_problem_does_not_contain_the_line(write: Write, text: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Registry.from_yaml(write(text))
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert list(chain(caught.value)) == [caught.value]
