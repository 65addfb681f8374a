"""Prints the outcomes of a command for many indexes, with counts at the end."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import click

from kekd._cli.exit_codes import FAILED, STOPPED
from kekd._cli.output.output import Output
from kekd._cli.output.terminal import say
from kekd.kek import Failure


class Success(Protocol):
    @property
    def index_name(self) -> str: ...

    @property
    def outcome(self) -> str:
        """A word or two, which the counts at the end use too."""


Outcome = Success | Failure


def show_all(
    outcomes: Iterator[Outcome], output: Output, *, label: str, always: Sequence[str] = ()
) -> None:
    """Prints outcomes as they arrive, then the counts and the failures.

    Exits with `FAILED` if any failed. The outcomes in `always` are listed even if their count is 0.
    """
    try:
        failed = _show(outcomes, output, label, always)
    except KeyboardInterrupt:
        sys.stdout.flush()
        # Running jobs may wait long for a rate limit, and lose nothing if they are interrupted.
        os._exit(STOPPED)
    if failed:
        click.get_current_context().exit(FAILED)


def show_outcome(outcome: Outcome, output: Output) -> None:
    content = {"index_name": outcome.index_name, "outcome": _word(outcome)}
    if isinstance(outcome, Failure):
        content["error"] = str(outcome.error)
    output.show_outcome(outcome.index_name, content, [f"{_word(outcome)} {outcome.index_name}"])


def _show(outcomes: Iterator[Outcome], output: Output, label: str, always: Sequence[str]) -> int:
    counts: Counter[str] = Counter(dict.fromkeys([*always, "failed"], 0))
    failures: list[Failure] = []
    lines = not output.is_text or not sys.stderr.isatty()
    progress: AbstractContextManager[Iterable[Outcome]] = nullcontext(outcomes)
    if not lines:
        progress = click.progressbar(outcomes, label=label, show_pos=True, file=sys.stderr)
    try:
        with progress as arriving:
            for outcome in arriving:
                counts[_word(outcome)] += 1
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                if lines:
                    show_outcome(outcome, output)
    finally:
        if output.is_text:  # also after Ctrl-C
            _print_summary(counts, failures)
    return counts["failed"]


def _print_summary(counts: Counter[str], failures: list[Failure]) -> None:
    failed = counts["failed"]
    others = [(word, count) for word, count in counts.items() if word != "failed"]
    for word, count in [*others, ("failed", failed)]:
        say(f"{word:<13}{count:>8}")
    if failures:
        say("failures:")
    for failure in failures:
        say(f"{failure.index_name}: {failure.error}")


def _word(outcome: Outcome) -> str:
    return "failed" if isinstance(outcome, Failure) else outcome.outcome
