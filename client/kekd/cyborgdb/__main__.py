"""Runs a command with its envelopes in a kekd daemon: `python -m kekd.cyborgdb COMMAND`."""

import runpy
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import click

import kekd
from kekd import cyborgdb


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--store", metavar="STORE", help="Store of the daemon (default: its default store).")
@click.option("-m", "is_module", is_flag=True, help="COMMAND is a Python module.")
@click.argument("command")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(command: str, arguments: tuple[str, ...], store: str | None, *, is_module: bool) -> None:
    """Run COMMAND, a Python script such as cyborgdb-service, with its envelopes in kekd.

    KEKD_ADDRESS selects the daemon, and KEKD_CA, KEKD_CERT and KEKD_KEY its TLS files.
    """
    try:
        cyborgdb.install(store=kekd.StorageConfig.named(store) if store else None)
    except ModuleNotFoundError as error:
        _refuse(f"{error}; install cyborgdb-service")
    except ValueError as error:
        _refuse(str(error))
    if is_module:
        sys.argv = [command, *arguments]
        runpy.run_module(command, run_name="__main__", alter_sys=True)
        return
    script = _find(command)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def _find(command: str) -> str:
    """Finds a script beside this interpreter, or in PATH."""
    folder = str(Path(sys.executable).parent)
    script = shutil.which(command, path=folder) or shutil.which(command)
    if script is None or not _is_python(Path(script)):
        _refuse(f"'{command}' is not a Python script; use -m MODULE for a module")
    return script


def _is_python(script: Path) -> bool:
    if script.suffix == ".py":
        return True
    with script.open("rb") as file:
        return b"python" in file.readline(4096) or b"python" in file.readline(4096)


def _refuse(problem: str) -> NoReturn:
    raise click.UsageError(problem)


if __name__ == "__main__":
    main(prog_name="python -m kekd.cyborgdb")
