"""What came of the many indexes of a command, as it comes and in the end."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import click

from kekd._cli.common import FAILED, STOPPED
from kekd._cli.terminal import say
from kekd.kek import Failure, Opening, Rotation

Outcome = Rotation | Opening | Failure


def show_all(
    outcomes: Iterator[Outcome], output: str, *, label: str, always: Sequence[str] = ()
) -> None:
    """Shows them as they come, and at the end counts and the failures; ends the command with
    `FAILED` if any failed. What is in `always` is counted also if there is none.
    """
    try:
        failed = _show(outcomes, output, label, always)
    except KeyboardInterrupt:
        sys.stdout.flush()
        # Those under way may wait long for their turns, and lose nothing if they are cut off.
        os._exit(STOPPED)
    if failed:
        click.get_current_context().exit(FAILED)


def line_of(outcome: Outcome, output: str) -> str:
    if output != "json":
        return f"{_word(outcome)} {outcome.index_name}"
    line = {"index_name": outcome.index_name, "outcome": _word(outcome)}
    error = {"error": str(outcome.error)} if isinstance(outcome, Failure) else {}
    return json.dumps(line | error)


def _show(outcomes: Iterator[Outcome], output: str, label: str, always: Sequence[str]) -> int:
    counts: Counter[str] = Counter(dict.fromkeys([*always, "failed"], 0))
    failures: list[Failure] = []
    lines = output == "json" or not sys.stderr.isatty()
    shown: AbstractContextManager[Iterable[Outcome]] = nullcontext(outcomes)
    if not lines:
        shown = click.progressbar(outcomes, label=label, show_pos=True, file=sys.stderr)
    try:
        with shown as each:
            for outcome in each:
                counts[_word(outcome)] += 1
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                if lines:
                    say(line_of(outcome, output))
    finally:
        # Also when it is stopped midway.
        if output != "json":
            _sum_up(counts, failures)
    return counts["failed"]


def _sum_up(counts: Counter[str], failures: list[Failure]) -> None:
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
