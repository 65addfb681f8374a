"""The snapshot of all help texts and messages, in tests/texts, is up to date."""

from pathlib import Path

import pytest

from tests.texts.collect import collect

TEXTS = collect()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_texts_are_as_in_the_snapshot(path: Path) -> None:
    assert TEXTS[path] == path.read_text(), (
        "a text has changed: run `make texts`, and read the diff of tests/texts"
    )
