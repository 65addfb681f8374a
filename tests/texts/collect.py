"""Collects the texts that kekd and kekctl show, into help.txt and messages.txt.

`python -m tests.texts.collect` writes both files, and tests/unit/test_texts.py compares them.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from kekd._cli import main as kekctl
from kekd_server.__main__ import main as kekd

FOLDER: Final = Path(__file__).parent
ROOT: Final = FOLDER.parents[1]
SOURCES: Final = ("common/kekd_common", "client/kekd", "server/kekd_server")
_MIN_WORDS: Final = 3
_WORD: Final = re.compile(r"[A-Za-z]{2}")
_WIDTH: Final = 100


def collect() -> Mapping[Path, str]:
    """Returns the content of each file."""
    return {FOLDER / "help.txt": _help_texts(), FOLDER / "messages.txt": _messages()}


def _help_texts() -> str:
    """Returns the help of each command."""
    commands = [*_commands(kekd, "kekd"), *_commands(kekctl, "kekctl")]
    return "\n\n".join(f"$ {name} --help\n{text}" for name, text in commands) + "\n"


def _commands(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    settings = {"terminal_width": _WIDTH, **command.context_settings}
    context = click.Context(command, parent, name, **settings)
    yield context.command_path, command.get_help(context)
    for child_name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, child_name, context)


def _messages() -> str:
    """Returns the strings of three words or more in each module, except docstrings and help."""
    paths = [path for source in SOURCES for path in sorted((ROOT / source).rglob("*.py"))]
    modules = {path.relative_to(ROOT): _messages_in(path.read_text()) for path in paths}
    return "\n".join(f"# {path}\n{text}" for path, text in modules.items() if text)


def _messages_in(source: str) -> str:
    finder = _StringFinder()
    finder.visit(ast.parse(source))
    return "".join(f"{text}\n" for text in finder.texts if _is_message(text))


def _is_message(text: str) -> bool:
    return sum(bool(_WORD.search(word)) for word in text.split()) >= _MIN_WORDS


class _StringFinder(ast.NodeVisitor):
    """Finds strings in source order. Expressions in f-strings are shown as `{expression}`."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "help":
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._add("".join(map(_format_part, node.values)))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self._add(node.value)

    def _add(self, text: str) -> None:
        self.texts.append(text.replace("\n", "\\n"))


def _format_part(part: ast.expr) -> str:
    if isinstance(part, ast.FormattedValue):
        return f"{{{ast.unparse(part.value)}}}"
    return str(ast.literal_eval(part))


if __name__ == "__main__":
    for path, text in collect().items():
        path.write_text(text)
