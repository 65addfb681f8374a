"""The lines on standard output for a user who starts kekd in a terminal."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from kekd_server.config.settings import Settings
from kekd_server.listeners.listener import Listener
from kekd_server.listeners.tcp import TcpListener


def print_banner(settings: Settings) -> None:
    """Prints addresses, and commands to paste, unless a program reads the output."""
    if settings.log_format == "json" or (settings.audit and not settings.audit.path):
        return
    listening = " and ".join(str(listener) for listener in settings.listeners)
    click.echo(f"kekd listens on {listening}. Press Ctrl-C to stop.")
    plain = [listener for listener in settings.listeners if not _has_tls(listener)]
    if plain:
        click.echo("Try:\n")
        for command in _examples(plain):
            click.echo(f"  {shlex.join(command)}")
        click.echo()


def _examples(plain: list[Listener]) -> Iterator[list[str]]:
    address = str(plain[0])
    tcp = next((str(listener) for listener in plain if isinstance(listener, TcpListener)), None)
    target = [tcp] if tcp else ["-unix", "-authority", "localhost", address.removeprefix("unix:")]
    snippet = f"import kekd; print(list(kekd.Client({address!r}).list_index_kms()))"
    yield [_command("grpcurl"), "-plaintext", *target, "list", "kekd.v1.EnvelopeService"]
    yield [_command("kekctl"), "--address", address, "list"]
    yield [_command("python"), "-c", snippet]


def _has_tls(listener: Listener) -> bool:
    return isinstance(listener, TcpListener) and listener.tls is not None


def _command(name: str) -> str:
    """Returns the name of a command, or its path if the shell doesn't find this installation."""
    path = Path(sys.executable).with_name(name)
    return name if shutil.which(name) == str(path) or not path.exists() else str(path)
