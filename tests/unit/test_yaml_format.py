"""kekctl's YAML is read as the values that it was made of."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kekd._cli.output.yaml_format import yaml_lines
from kekd_common.printable import printable

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)


def read(value: Any) -> Any:
    return yaml.safe_load("\n".join(printable(line) for line in yaml_lines(value)))


@given(values)
def test_any_json_value_is_read_back(value: Any) -> None:
    assert read(value) == value


@pytest.mark.parametrize(
    "text", ["true", "No", "null", "~", "1.5", "0x1", "a: b", "- a", "", " a", "a #b", "2026-01-01"]
)
def test_text_that_looks_like_another_type_stays_a_text(text: str) -> None:
    assert read({"a": [text]}) == {"a": [text]}


def test_floats_of_json_are_read_back() -> None:
    assert read(json.loads('{"a": 0.25, "b": -1.5}')) == {"a": 0.25, "b": -1.5}


def test_block_style_is_readable() -> None:
    content = {"index_name": "a", "blob": {"provider": "none", "tags": [{"x": 1, "y": []}, "z"]}}
    assert list(yaml_lines(content)) == [
        "index_name: a",
        "blob:",
        "  provider: none",
        "  tags:",
        "    - x: 1",
        '      "y": []',
        "    - z",
    ]
