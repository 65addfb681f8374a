import json

import pytest

from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import WrongContextError

MINE = EncryptionContext("mine", "default")
RECORDED = '{"index_name":"mine","store":"default"}'


def test_context_is_recorded_as_json() -> None:
    assert str(MINE) == RECORDED


@pytest.mark.parametrize("name", ["mine", 'a"b', "a\\b", "日本語", "a\nb", "\x7f"])
def test_context_with_any_name_parses_back(name: str) -> None:
    binding = EncryptionContext(name, name)
    assert EncryptionContext.expected(name, [name], str(binding)) == binding
    assert str(binding).isascii()


def test_similar_names_give_different_contexts() -> None:
    assert str(EncryptionContext('a","store":"b', "c")) != str(
        EncryptionContext("a", 'b","store":"c')
    )
    assert str(EncryptionContext("ab", "c")) != str(EncryptionContext("a", "bc"))


def test_envelope_without_a_context_expects_none() -> None:
    assert EncryptionContext.expected("mine", ["default"], "") is None


@pytest.mark.parametrize("stores", [["default"], ["other", "default"], []])
def test_context_of_the_same_index_and_store_is_expected(stores: list[str]) -> None:
    assert EncryptionContext.expected("mine", stores, RECORDED) == MINE


def test_context_of_another_index_raises() -> None:
    with pytest.raises(WrongContextError, match="wrapped for index 'mine'"):
        EncryptionContext.expected("yours", ["default"], RECORDED)


def test_context_of_another_store_raises() -> None:
    with pytest.raises(WrongContextError, match="from_store 'default'"):
        EncryptionContext.expected("mine", ["other", "third"], RECORDED)


@pytest.mark.parametrize(
    "recorded",
    [
        "x",
        "null",
        "[]",
        "{}",
        '{"index_name":"mine"}',
        '{"index_name":"mine","store":1}',
        '{"index_name":"mine","store":"default","more":""}',
        RECORDED + "x",
        "[" * 100_000,
        json.dumps([RECORDED]),
    ],
    ids=range(10),
)
def test_invalid_context_raises(recorded: str) -> None:
    with pytest.raises(WrongContextError, match="kekd didn't write it"):
        EncryptionContext.expected("mine", [], recorded)
