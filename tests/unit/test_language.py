"""The sources, tests and documents keep to the style sheet of CONTRIBUTING.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = [
    "bench",
    "client",
    "common",
    "deploy",
    "docs",
    "protos/kekd",
    "schema",
    "server",
    "tests",
]
FILES = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "pyproject.toml",
]
STYLE_TABLE = (ROOT / "CONTRIBUTING.md").read_text().partition("| avoid |")[2].partition("\n\n")[0]
PHRASES = [
    phrase
    for row in STYLE_TABLE.splitlines()[2:]
    for phrase in re.findall("`(.+?)`", row.split("|")[1])
]
BANNED = re.compile(rf"(?<![\w.])(?:{'|'.join(PHRASES)})\b", re.IGNORECASE)
BANNED_TEST_NAME = re.compile(
    r"\bdef (test(?:_(?:a|an|the|it|what|who|so|and|of|those|half|begun|by)_\w+"
    r"|\w*_(?:nobody|somebody|nobodys|lets?|may)(?:_\w+)?))\(",
)


def texts() -> Iterator[tuple[Path, str]]:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    examples = [path for path in ROOT.glob("examples/*/*") if path.is_file()]
    for path in [*paths, *examples, *(ROOT / name for name in FILES)]:
        # Other processes write bytecode, in files with other suffixes at first.
        if path.suffix != ".svg" and "__pycache__" not in path.parts:
            yield path.relative_to(ROOT), path.read_text().replace(STYLE_TABLE, "")


def defined_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case (
                ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(attr=name, ctx=ast.Store())
                | ast.arg(arg=name)
                | ast.alias(asname=str(name))
                | ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.ClassDef(name=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                yield name


def is_banned(name: str) -> bool:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return name == "it" or not {word.lower() for word in words}.isdisjoint(PHRASES)


def test_style_sheet_lists_phrases() -> None:
    assert len(PHRASES) > 10


def test_no_text_has_a_banned_phrase() -> None:
    """Joins the lines, because a phrase may continue on the next one."""
    found = [
        f"{path}: {match[0]}"
        for path, text in texts()
        for match in BANNED.finditer(re.sub(r"\s*\n[\s#/]*", " ", text))
    ]
    assert not found, "\n".join(found)


def test_no_name_has_a_banned_word() -> None:
    found = [
        f"{path}: {name}"
        for path, text in texts()
        if path.suffix == ".py"
        for name in defined_names(text)
        if is_banned(name)
    ]
    assert not found, "\n".join(found)


def test_no_test_name_has_a_banned_word() -> None:
    found = [
        f"{path}: {match[1]}"
        for path, text in texts()
        if path.suffix == ".py"
        for match in BANNED_TEST_NAME.finditer(text)
    ]
    assert not found, "\n".join(found)
