"""`kekctl audit`: reads the daemon's audit log."""

import json
import sys
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from kekd._cli.audit import log_files
from kekd._cli.audit.log_files import Line
from kekd._cli.audit.record import AuditError, Entry, Query, decisions
from kekd._cli.common import main
from kekd._cli.exit_codes import FAILED, STOPPED
from kekd._cli.output.output import Output, output_option
from kekd._cli.output.terminal import say
from kekd._cli.output.times import format_timestamp
from kekd_common.duration import parse_duration
from kekd_common.printable import printable

_POLL_INTERVAL: Final = 0.2
_STDIN: Final = Path("-")
_FILE: Final = click.Path(dir_okay=False, path_type=Path)


class _Time(click.ParamType):  # type: ignore[type-arg]  # it has no parameter before click 8.4
    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            return datetime.now(UTC) - timedelta(seconds=parse_duration(value))
        except (OverflowError, ValueError):  # a time
            pass
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            message = f"{value!r} is not a time; write 2026-01-31, 2026-01-31T12:00:00Z or 5m"
            self.fail(message, param, ctx)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


@main.group()
def audit() -> None:
    """Read the daemon's audit log, one line per decision.

    Lines that aren't audit records are reported on standard error and skipped. With --output json
    or yaml, their content is unchanged, and a write has two: "begin" and "end". With --output name,
    the ids of the calls are printed.
    """


@audit.command()
@click.argument("file", type=_FILE, envvar="KEKD_AUDIT", default=_STDIN)
@click.option("--follow", is_flag=True, help="Keep printing new lines, also after rotations.")
@click.option(
    "--lines",
    "-n",
    "count",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="N",
    help="Number of existing lines to show.",
)
@output_option
@click.pass_context
def tail(context: click.Context, file: Path, *, follow: bool, count: int, output: Output) -> None:
    """Show the last decisions in FILE (default: $KEKD_AUDIT, or standard input).

    With --follow, a write is shown when it ends.
    """
    try:
        if follow:
            _follow(file, count, output)
        else:
            unread: list[Path] = []
            _show(deque(_select(_read_all([file], unread), output), count), output)
            if unread:
                context.exit(FAILED)
    except KeyboardInterrupt:  # ends --follow
        context.exit(STOPPED)


@audit.command()
@click.argument("files", metavar="FILE...", type=_FILE, nargs=-1, required=True)
@click.option("--identity", metavar="GLOB", help="Caller.")
@click.option("--method", metavar="GLOB", help="Method, such as read or push.")
@click.option("--index", metavar="GLOB", help="Index name.")
@click.option("--store", metavar="GLOB", help="Store, as named in the daemon's log.")
@click.option("--code", metavar="GLOB", help="gRPC status code, such as NOT_FOUND.")
@click.option("--reason", metavar="GLOB", help="kekd's reason, such as ENVELOPE_NOT_FOUND.")
@click.option("--denied", is_flag=True, help="Only denied calls.")
@click.option(
    "--since",
    type=_Time(),
    metavar="TIME",
    help="Start: ISO 8601, UTC unless it has an offset, or a duration before now, such as 5m.",
)
@click.option("--until", type=_Time(), metavar="TIME", help="End, exclusive.")
@output_option
@click.pass_context
def search(
    context: click.Context, /, files: tuple[Path, ...], output: Output, **query: Any
) -> None:
    """Show the decisions in FILEs that match all options. Also reads rotated files (.gz).

    Quote the globs; * matches any text. If a file can't be read, the command reports it, reads the
    others, and exits with 1.
    """
    unread: list[Path] = []
    conditions = Query(**query)
    entries = _select(_read_all(files, unread), output)
    _show((entry for entry in entries if conditions.matches(entry)), output)
    if unread:
        context.exit(FAILED)


def _follow(file: Path, count: int, output: Output) -> None:
    recent: deque[Entry] = deque(maxlen=count)
    is_caught_up = False
    for line in _lines(file) if file == _STDIN else log_files.follow(file):
        if line is None:
            _show(recent, output)
            recent.clear()
            is_caught_up = True
            time.sleep(_POLL_INTERVAL)
            continue
        entries = (
            entry
            for entry in _parse_lines(file, [line])
            if not output.is_text or entry.event != "begin"
        )
        if is_caught_up or file == _STDIN:
            _show(entries, output)
        else:
            recent.extend(entries)


def _read_all(files: Iterable[Path], unread: list[Path]) -> Iterator[Entry]:
    """Reports files that can't be read, and adds them to `unread`."""
    for file in files:
        try:
            yield from _parse_lines(file, _lines(file))
        except (OSError, EOFError, zlib.error) as error:
            unread.append(file)
            cause = (isinstance(error, OSError) and error.strerror) or "damaged or truncated"
            _report(f"{file}: {cause}")


def _lines(file: Path) -> Iterator[Line]:
    return enumerate(sys.stdin.buffer, 1) if file == _STDIN else log_files.lines(file)


def _parse_lines(file: Path, lines: Iterable[Line]) -> Iterator[Entry]:
    for number, line in lines:
        try:
            yield Entry.parse(line)
        except AuditError as error:
            _report(f"{file}:{number}: skipped: {error}")


def _select(entries: Iterable[Entry], output: Output) -> Iterable[Entry]:
    return decisions(entries) if output.is_text else entries


def _show(entries: Iterable[Entry], output: Output) -> None:
    for entry in entries:
        try:
            output.show(entry.request_id, entry.content, [_line(entry)])
        except RecursionError:  # parsing it took fewer frames
            _report("a line was skipped: nested too deeply")


def _line(entry: Entry) -> str:
    words = (entry.identity, entry.method, entry.store, entry.index)
    outcome = _describe_outcome(entry)
    duration = f" {entry.duration_ms:g} ms" if entry.duration_ms is not None else ""
    rule = f" by {_quote(entry.rule)}" if entry.rule else ""
    call = " ".join(map(_quote, words))
    if entry.version_id:
        call += f" version {_quote(entry.version_id)}"
    timestamp = format_timestamp(entry.time)
    return printable(f"{timestamp} {_quote(entry.decision)}{rule}: {call}: {outcome}{duration}")


def _describe_outcome(entry: Entry) -> str:
    if entry.event == "begin":
        return "unfinished"
    words = [entry.code]
    if entry.reason and entry.reason != entry.code:
        words.append(f"({entry.reason})")
    if entry.event == "denials":
        words.append(f"and {entry.count - 1} more denials since the previous line")
    elif entry.count > 1:
        words.append(f"for all {entry.count} entries of a batch")
    return " ".join(words)


def _quote(text: str) -> str:
    """Quotes a text that isn't a single word."""
    return text if text and " " not in text and '"' not in text else json.dumps(text)


def _report(text: str) -> None:
    say(f"kekctl: {text}", error=True)
