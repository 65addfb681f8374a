import pytest

from kekd_common import yaml_loader
from kekd_common.yaml_loader import YamlError, load


def lines_that_double(first: str, line: str, count: int = 30) -> str:
    """Each line contains the one before twice, so the last expands to 2 ** count of the first."""
    return first + "".join(line.format(number, number - 1) for number in range(1, count + 1))


@pytest.mark.parametrize(
    "text",
    [
        lines_that_double("a0: &a0 [1]\n", "a{0}: &a{0} [*a{1}, *a{1}]\n"),
        lines_that_double("a0: &a0 {k: 1}\n", "a{0}: &a{0} {{x: *a{1}, y: *a{1}}}\n"),
        lines_that_double("a0: &a0 {k: 1}\n", "a{0}: &a{0} {{<<: [*a{1}, *a{1}]}}\n"),
    ],
    ids=["lists", "mappings", "merges"],
)
def test_aliases_that_expand_to_too_many_values_are_rejected_at_once(text: str) -> None:
    with pytest.raises(YamlError, match="write them out"):
        load(text)


@pytest.mark.parametrize("text", ["a: &a [*a]", "&a {k: *a}", "&a {k: [{<<: *a}]}"])
def test_alias_that_contains_itself_is_rejected(text: str) -> None:
    with pytest.raises(YamlError, match="contains itself"):
        load(text)


def test_aliases_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\nd: {<<: [*a, {z: 4}]}\n"
    a = {"x": 1, "y": 2}
    assert load(text) == {"a": a, "b": a, "c": {"x": 1, "y": 3}, "d": a | {"z": 4}}


def test_overridden_key_of_a_merged_mapping_is_no_duplicate() -> None:
    text = "base: &base {k: 1}\nx: {y: {z: &a {<<: *base, k: 2}}}\nb: {<<: *a}\n"
    assert load(text)["x"] == {"y": {"z": {"k": 2}}}


def test_long_file_without_aliases_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_loader, "MAX_ALIASED_VALUES", 1000)
    assert len(load("[" + "1," * 1001 + "]")) == 1001


@pytest.mark.parametrize(
    "text",
    [
        "{a: 1, a: 1}",
        "{a: 1, 'a': 1}",
        "{1: 1, 0x1: 1}",
        "{true: 1, yes: 1}",
        "[{k: {a: 1, a: 2}}]",
    ],
)
def test_duplicate_key_is_rejected(text: str) -> None:
    with pytest.raises(YamlError, match="duplicate key"):
        load(text)
