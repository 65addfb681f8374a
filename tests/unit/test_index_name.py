from collections.abc import Callable
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kekd_server.model.errors import InvalidIndexNameError
from kekd_server.model.index_name import IndexName, NamePrefix

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("my_index", "my_index.kms.cat"),
        ("a/b", "a%2Fb.kms.cat"),
        ("..", "...kms.cat"),
        ("é", "%C3%A9.kms.cat"),
        ("a\0b", "a%00b.kms.cat"),
        ("~", "%7E.kms.cat"),
        ("%41", "%2541.kms.cat"),
        ("A-z0._", "A-z0._.kms.cat"),
    ],
)
def test_key_is_the_percent_encoded_name(name: str, key: str) -> None:
    assert IndexName(name).key == key


@given(texts)
def test_key_is_decoded_to_its_name(name: str) -> None:
    key = IndexName(name).key
    assert IndexName.from_key(key) == IndexName(name)
    assert unquote(key) == f"{name}.kms.cat"


@given(texts, texts)
def test_key_of_a_prefix_is_a_prefix_of_the_key(prefix: str, rest: str) -> None:
    assert IndexName(prefix + rest).key.startswith(NamePrefix(prefix).key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".kms.cat",
        "a",
        "%41.kms.cat",
        "%zz.kms.cat",
        "%c3%a9.kms.cat",
        "%FF.kms.cat",
        "a/b.kms.cat",
    ],
)
def test_key_that_kekd_never_writes_has_no_name(key: str) -> None:
    assert IndexName.from_key(key) is None


@pytest.mark.parametrize("kind", [IndexName, NamePrefix])
def test_key_cannot_be_passed(kind: Callable[..., object]) -> None:
    with pytest.raises(TypeError):
        kind("a", key="b.kms.cat")
    with pytest.raises(TypeError):
        kind("a", "b.kms.cat")


def test_longest_name_is_accepted_and_one_more_byte_is_not() -> None:
    assert len(IndexName("n" * 247).key) == 255
    with pytest.raises(InvalidIndexNameError, match="256 bytes, and the limit is 255"):
        IndexName("n" * 248)
    assert len(IndexName("é" * 41).key) == 254
    with pytest.raises(InvalidIndexNameError):
        IndexName("é" * 42)


def test_empty_name_is_refused_with_the_text_of_cyborgdb() -> None:
    with pytest.raises(InvalidIndexNameError) as caught:
        IndexName("")
    assert str(caught.value) == "index_name cannot be empty."


def test_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidIndexNameError, match="lone surrogate at character 1"):
        IndexName("a\ud800")


def test_prefix_longer_than_any_name_is_refused() -> None:
    with pytest.raises(InvalidIndexNameError):
        NamePrefix("p" * 256)


def test_key_that_only_starts_like_the_prefix_is_not_in_it() -> None:
    key = IndexName("ab").key
    assert key.startswith(NamePrefix("ab.").key)
    assert NamePrefix("ab.").name_of(key) is None
    assert NamePrefix("ab").name_of(key) == IndexName("ab")
