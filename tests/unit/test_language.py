"""The sources, documents and test names keep to the style sheet of CONTRIBUTING.md."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("bench", "client", "common", "deploy", "docs", "protos/kekd", "schema", "server")
FILES = ("Makefile", "README.md", "SECURITY.md", "pyproject.toml")
BANNED = re.compile(
    r"\b(?:whoever|anew|told|tells|let in|stands for|as it is|is no reason|for it in)\b",
    re.IGNORECASE,
)
BANNED_TEST_NAME = re.compile(
    r"\bdef (test(?:_(?:a|an|the|it|what|who|whoever|so|and|of|those|half|begun|by)_\w+"
    r"|\w*_(?:told|tells|anew|nobody|somebody|nobodys|lets?|he|may)(?:_\w+)?))\(",
)


def texts() -> Iterator[tuple[Path, str]]:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in [*paths, *(ROOT / name for name in FILES)]:
        if path.suffix not in {".pyc", ".svg"}:
            yield path.relative_to(ROOT), path.read_text()


def test_no_text_has_a_banned_phrase() -> None:
    """Joins the lines, because a phrase may continue on the next one."""
    found = [
        f"{path}: {match[0]}"
        for path, text in texts()
        for match in BANNED.finditer(re.sub(r"\s*\n[\s#/]*", " ", text))
    ]
    assert not found, "\n".join(found)


def test_no_test_name_has_a_banned_word() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[1]}"
        for path in (ROOT / "tests").rglob("*.py")
        for match in BANNED_TEST_NAME.finditer(path.read_text())
    ]
    assert not found, "\n".join(found)
