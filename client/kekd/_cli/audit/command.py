"""Reading the daemon's audit."""

import json
import sys
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from kekd._cli.audit import log_files
from kekd._cli.audit.log_files import Line
from kekd._cli.audit.record import AuditError, Entry, Query, decisions
from kekd._cli.common import FAILED, STOPPED, main, output_option
from kekd._cli.status import moment
from kekd._cli.terminal import say
from kekd_common.printable import printable

_LOOK_SECONDS: Final = 0.2
_STDIN: Final = Path("-")
_FILE: Final = click.Path(dir_okay=False, path_type=Path)


class _Time(click.ParamType[datetime]):
    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail("write 2026-01-31, or 2026-01-31T12:00:00Z", param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


@main.group()
def audit() -> None:
    """Read the daemon's audit, a line for each decision.

    What isn't a line of the audit is told of on standard error, with its number, and passed over.
    With --output json the lines come as they are: a write has two, "begin" and "end".
    """


@audit.command()
@click.argument("file", type=_FILE, envvar="KEKD_AUDIT", default=_STDIN)
@click.option("--follow", is_flag=True, help="Go on with what is written, over rotations.")
@click.option(
    "--lines",
    "-n",
    "count",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="N",
    help="How many of those that are there.",
)
@output_option
@click.pass_context
def tail(context: click.Context, file: Path, *, follow: bool, count: int, output: str) -> None:
    """Show the last decisions of FILE: of $KEKD_AUDIT, or standard input, if it isn't given.

    With --follow a write is shown when it has ended.
    """
    try:
        if follow:
            _follow(file, count, output)
        else:
            unread: list[Path] = []
            _show(deque(_chosen(_every([file], unread), output), count), output)
            if unread:
                context.exit(FAILED)
    except KeyboardInterrupt:  # how following ends
        context.exit(STOPPED)


@audit.command()
@click.argument("files", metavar="FILE...", type=_FILE, nargs=-1, required=True)
@click.option("--identity", metavar="GLOB", help="Who called.")
@click.option("--method", metavar="GLOB", help="What was called.")
@click.option("--index", metavar="GLOB")
@click.option("--store", metavar="GLOB", help="As the daemon's log has it.")
@click.option("--code", metavar="GLOB", help="gRPC's name for the outcome, such as NOT_FOUND.")
@click.option("--reason", metavar="GLOB", help="kekd's own, such as ENVELOPE_NOT_FOUND.")
@click.option("--denied", is_flag=True, help="Only what was denied.")
@click.option("--since", type=_Time(), metavar="TIME", help="ISO 8601; UTC unless it says another.")
@click.option("--until", type=_Time(), metavar="TIME", help="The first that is too late.")
@output_option
@click.pass_context
def search(context: click.Context, /, files: tuple[Path, ...], output: str, **query: Any) -> None:
    """Show the decisions of FILEs, rotated ones (.gz) too, for which all that is asked holds.

    Write the globs in quotes; * is any text. A file that can't be read is told of, and the exit
    code is 1.
    """
    unread: list[Path] = []
    found = _chosen(_every(files, unread), output)
    wanted = Query(**query)
    _show((entry for entry in found if wanted.matches(entry)), output)
    if unread:
        context.exit(FAILED)


def _follow(file: Path, count: int, output: str) -> None:
    recent: deque[Entry] = deque(maxlen=count)
    is_caught_up = False
    for line in _lines(file) if file == _STDIN else log_files.followed(file):
        if line is None:
            _show(recent, output)
            recent.clear()
            is_caught_up = True
            time.sleep(_LOOK_SECONDS)
            continue
        entries = (it for it in _entries(file, [line]) if output == "json" or it.event != "begin")
        if is_caught_up or file == _STDIN:
            _show(entries, output)
        else:
            recent.extend(entries)


def _every(files: Iterable[Path], unread: list[Path]) -> Iterator[Entry]:
    """Adds those that can't be read to `unread`."""
    for file in files:
        try:
            yield from _entries(file, _lines(file))
        except (OSError, EOFError, zlib.error) as error:
            unread.append(file)
            why = (isinstance(error, OSError) and error.strerror) or "damaged, or cut off"
            _complain(f"{file}: {why}")


def _lines(file: Path) -> Iterator[Line]:
    return enumerate(sys.stdin.buffer, 1) if file == _STDIN else log_files.lines(file)


def _entries(file: Path, lines: Iterable[Line]) -> Iterator[Entry]:
    for number, line in lines:
        try:
            yield Entry.parse(line)
        except AuditError as error:
            _complain(f"{file}:{number}: {error}: passed over")


def _chosen(entries: Iterable[Entry], output: str) -> Iterable[Entry]:
    return entries if output == "json" else decisions(entries)


def _show(entries: Iterable[Entry], output: str) -> None:
    for entry in entries:
        if text := _json(entry) if output == "json" else _line(entry):
            say(text)


def _json(entry: Entry) -> str:
    try:
        return json.dumps(entry.content)
    except RecursionError:  # it was read with a few frames more to spare
        _complain("a line is nested too deeply: passed over")
        return ""


def _line(entry: Entry) -> str:
    words = (entry.identity, entry.method, entry.store, entry.index)
    outcome = _outcome(entry)
    duration = f" {entry.duration_ms:g} ms" if entry.duration_ms is not None else ""
    rule = f" by {_word(entry.rule)}" if entry.rule else ""
    called = " ".join(map(_word, words))
    time = moment(entry.time)
    return printable(f"{time} {_word(entry.decision)}{rule}: {called}: {outcome}{duration}")


def _outcome(entry: Entry) -> str:
    if entry.event == "begin":
        return "has no end"
    words = [entry.code]
    if entry.reason and entry.reason != entry.code:
        words.append(f"({entry.reason})")
    if entry.event == "denials":
        words.append(f"and {entry.count - 1} more denials since the last line")
    elif entry.count > 1:
        words.append(f"for all {entry.count} of a batch")
    return " ".join(words)


def _word(text: str) -> str:
    """As one word: quoted if it isn't."""
    return text if text and " " not in text and '"' not in text else json.dumps(text)


def _complain(text: str) -> None:
    say(f"kekctl: {text}", error=True)
