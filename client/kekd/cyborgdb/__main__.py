"""Runs a command with its envelopes in a kekd daemon: `python -m kekd.cyborgdb COMMAND`."""

import importlib.util
import os
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import click

import kekd
from kekd.cyborgdb._children import install_with_children

_INTERPRETER: Final = re.compile(r"python(3(\.\d+)?)?")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--store", metavar="STORE", help="Store of the daemon (default: its default store).")
@click.option("-m", "is_module", is_flag=True, help="COMMAND is a Python module.")
@click.argument("command")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(
    command: str, arguments: tuple[str, ...], store: str | None, *, is_module: bool
) -> Callable[[], object]:
    """Run COMMAND, a Python script such as cyborgdb-service, with its envelopes in kekd.

    COMMAND can also be `python SCRIPT` or `python -m MODULE`. It runs in this interpreter.

    KEKD_ADDRESS selects the daemon, and KEKD_CA, KEKD_CERT and KEKD_KEY its TLS files.
    """
    if not is_module and _INTERPRETER.fullmatch(Path(command).name):
        run = _prepare_python(command, arguments)
    elif is_module:
        run = _prepare_module(command, arguments)
    else:
        run = _prepare_script(_find(command), arguments)
    try:
        install_with_children(kekd.StorageConfig.named(store) if store else None)
    except (ModuleNotFoundError, ValueError) as error:
        _refuse(str(error))
    return run


def _prepare_python(interpreter: str, arguments: tuple[str, ...]) -> Callable[[], object]:
    match arguments:
        case ["-m", module, *rest]:
            return _prepare_module(module, tuple(rest))
        case [script, *rest] if not script.startswith("-"):
            if not Path(script).exists():
                _refuse(f"cannot run '{script}': it does not exist; give the path of a script")
            return _prepare_script(script, tuple(rest))
    raise click.UsageError(
        f"cannot run '{interpreter}' like this: it needs a script or a module; use 'python SCRIPT'"
        " or 'python -m MODULE', and pass other options to the interpreter of kekd.cyborgdb"
    )


def _prepare_module(module: str, arguments: tuple[str, ...]) -> Callable[[], object]:
    if not _is_runnable(module):
        _refuse(
            f"cannot run module '{module}': this environment has no such module that can run;"
            " correct the name, or install it"
        )
    sys.argv = [module, *arguments]
    return lambda: runpy.run_module(module, run_name="__main__", alter_sys=True)


def _is_runnable(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
        if spec and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{module}.__main__")
    except (ModuleNotFoundError, ValueError):
        return False
    return spec is not None


def _prepare_script(script: str, arguments: tuple[str, ...]) -> Callable[[], object]:
    sys.argv = [script, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(script).resolve().parent)
    return lambda: runpy.run_path(script, run_name="__main__")


def _find(command: str) -> str:
    """Finds a script beside this interpreter, or in PATH."""
    folder = str(Path(sys.executable).parent)
    script = shutil.which(command, path=folder) or shutil.which(command)
    if script is None:
        _refuse(f"cannot run '{command}': {_why_not_found(command)}")
    if not _is_python(Path(script)):
        _refuse(f"cannot run '{command}': it is not a Python script; use -m MODULE for a module")
    return script


def _why_not_found(command: str) -> str:
    if not Path(command).exists():
        return "it does not exist; give the path or name of a script, or use -m MODULE"
    if Path(command).is_file() and os.sep in command:
        return "it is not executable; run 'python SCRIPT', or make it executable"
    return "it is not in PATH; run 'python SCRIPT', or give a path such as ./SCRIPT"


def _is_python(script: Path) -> bool:
    if script.suffix == ".py":
        return True
    with script.open("rb") as file:
        first, second = file.readline(4096), file.readline(4096)
    # Where the path of the interpreter is long, pip writes a script that starts as one of sh.
    interpreter = second if second.startswith(b"'''exec'") else first
    return first.startswith(b"#!") and b"python" in interpreter


def _refuse(problem: str) -> NoReturn:
    raise click.UsageError(problem)


def _run() -> None:
    """Runs the command outside of click, which would catch its KeyboardInterrupt."""
    try:
        run = main.main(prog_name="python -m kekd.cyborgdb", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    if callable(run):  # not after --help
        run()


if __name__ == "__main__":
    _run()
