"""Writes a command line that the reader can paste into a shell."""

import shlex

import click

from kekd._cli.options.global_options import CALL_OPTIONS, global_options


def command_line(context: click.Context, command: str, index: str, store: object) -> str:
    """Returns a kekctl command for an index, which calls the same daemon as the current one.

    Options that come from variables are omitted: they apply to the next command too.
    """
    words = ["kekctl"]
    flags = global_options(context).flags
    for option in CALL_OPTIONS:
        name = option.opts[0]
        if (value := flags.get(name[2:])) is not None:
            words += [name, str(value)]
    words.append(command)
    if store is not None:
        words += ["--store", str(store)]
    words += ["--", index] if index.startswith("-") else [index]
    return " ".join(map(_quote, words))


def _quote(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    escaped = (char if char.isprintable() and char not in "'\\" else _escape(char) for char in word)
    return f"$'{''.join(escaped)}'"


def _escape(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())
