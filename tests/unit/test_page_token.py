import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kekd_server.model.errors import InvalidRequestError
from kekd_server.model.index_name import IndexName
from kekd_server.model.page_token import PageToken

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(texts, texts)
def test_token_parses_to_its_position(prefix: str, name: str) -> None:
    token = PageToken(prefix, "listing", IndexName(name))
    assert PageToken.parse(str(token), prefix) == token


def test_token_of_another_prefix_is_refused() -> None:
    token = str(PageToken("a", "listing", IndexName("ab")))
    with pytest.raises(InvalidRequestError, match="another prefix"):
        PageToken.parse(token, "b")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"{}",
        b"[]",
        b'["", "l", ""]',
        b'["", "l", null]',
        b'["", 1, "a"]',
        b'["", "l", "a", 1]',
        b'["", "l", "\\ud800"]',
        b"[" * 20_000,
    ],
    ids=lambda content: content[:12],
)
def test_forged_token_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="list again without it"):
        PageToken.parse(base64.urlsafe_b64encode(content).decode(), "")


@given(st.text())
def test_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        PageToken.parse(text, "")
