"""Collects the texts that kekd and kekctl show, into help.txt and messages.txt.

`python -m tests.texts.collect` writes both files, and tests/unit/test_texts.py compares them.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from kekd._cli.common import main as kekctl
from kekd_server.command import main as kekd

FOLDER: Final = Path(__file__).parent
ROOT: Final = FOLDER.parents[1]
SOURCES: Final = ("common/kekd_common", "schema/kekd_schema", "client/kekd", "server/kekd_server")
_MIN_WORDS: Final = 2
_PRINTING: Final = ("echo", "error", "fail", "failure", "info", "ok", "say", "warning")
"""Functions that show a single word, too. So do exceptions."""
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
    if isinstance(command, click.Group):
        for child_name in command.list_commands(context):
            if child := command.get_command(context, child_name):
                yield from _commands(child, child_name, context)


def _messages() -> str:
    """Returns the strings in each module that look like messages, except docstrings and help."""
    paths = [path for source in SOURCES for path in sorted((ROOT / source).rglob("*.py"))]
    modules = {path.relative_to(ROOT): _messages_in(path.read_text()) for path in paths}
    return "\n".join(f"# {path}\n{text}" for path, text in modules.items() if text)


def _messages_in(source: str) -> str:
    finder = _MessageFinder()
    finder.visit(ast.parse(source))
    return "".join(f"{text}\n" for text in finder.texts)


class _MessageFinder(ast.NodeVisitor):
    """Finds messages in source order. Expressions in f-strings are shown as `{expression}`.

    A string is a message if it has two words, or one that an exception or a function shows.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._shown: list[ast.expr] = []

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "help":
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        if isinstance(node.exc, ast.Call):
            self._shown += node.exc.args
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in _PRINTING:
            self._shown += node.args
        if name != "cast":  # whose first argument is a type
            self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        if node in self._shown:
            self._shown += [node.body, node.orelse]
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        """Skips the annotation."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if ast.unparse(node.annotation).startswith("Annotated["):  # a setting, with its texts
            self.visit(node.annotation)
        if node.value:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        node.returns = None
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._add(node, "".join(map(_format_part, node.values)))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self._add(node, node.value)

    def _add(self, node: ast.expr, text: str) -> None:
        words = sum(bool(_WORD.search(word)) for word in text.split())
        if words >= _MIN_WORDS or (words and node in self._shown):
            self.texts.append(text.replace("\n", "\\n"))


def _format_part(part: ast.expr) -> str:
    if isinstance(part, ast.FormattedValue):
        return f"{{{ast.unparse(part.value)}}}"
    return str(ast.literal_eval(part))


if __name__ == "__main__":
    for path, text in collect().items():
        path.write_text(text)
