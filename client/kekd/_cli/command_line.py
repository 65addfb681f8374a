"""Writes a command line that the reader can paste into a shell."""

import shlex

import click
from click.core import ParameterSource


def command_line(context: click.Context, command: str, index: str, store: object) -> str:
    """Returns a kekctl command for an index, with the connection options of the current one.

    Options that come from variables are omitted: they apply to the next command too.
    """
    words = ["kekctl", *_connection_options(context.find_root()), command]
    if store is not None:
        words += ["--store", str(store)]
    words += ["--", index] if index.startswith("-") else [index]
    return " ".join(map(_quote, words))


def _connection_options(root: click.Context) -> list[str]:
    return [
        word
        for option in root.command.params
        if option.name and root.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
        for word in (option.opts[0], str(root.params[option.name]))
    ]


def _quote(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    escaped = (char if char.isprintable() and char not in "'\\" else _escape(char) for char in word)
    return f"$'{''.join(escaped)}'"


def _escape(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())
