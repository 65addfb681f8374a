"""Writes that pause where they wait, so that one thread runs several of them together."""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, wait
from contextvars import Context, copy_context
from functools import wraps
from typing import Final, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


class Pause(Protocol):
    """What a write waits for. Writes that run together wait once for equal pauses."""

    def begin(self) -> None:
        """Starts what `wait` waits for, so that several pauses overlap. Neither waits nor raises an
        error.
        """

    def wait(self) -> None:
        """Called in any thread. Raises OSError, which each write that paused here then gets."""


class _LockContention:
    """The pause of a write that has to wait for another one. It holds nothing meanwhile."""

    def begin(self) -> None:
        pass

    def wait(self) -> None:
        pass


CONTENDED: Final = _LockContention()
"""The pause of a write whose lock another write has. After the first one, it tries again, because a
write of its own group may have had the lock. After the second one, it blocks its thread, so it must
run alone.
"""

_PAUSES_PER_THREAD: Final = 4
"""Waking another thread costs as much as one or two waits, so one thread waits for four pauses."""

Steps: TypeAlias = Generator[Pause, None, T]
"""A write, as a generator that yields its pauses and returns its result."""

Submit: TypeAlias = Callable[[Callable[[], None]], Future[None]]
"""Starts a call in another thread, as soon as one is free."""


def without_pauses(write: Callable[P, T]) -> Callable[P, Steps[T]]:
    """Wraps a blocking method, so that it returns steps without a pause."""

    @wraps(write)
    def run(*arguments: P.args, **options: P.kwargs) -> Steps[T]:
        yield from ()  # makes it a generator
        return write(*arguments, **options)

    return run


class RunningWrite(Generic[T]):
    """A write, its pause, and its outcome. Its steps run in `context`, by default an empty one."""

    __slots__ = ("_context", "_steps", "error", "has_ended", "pause", "result")

    def __init__(self, steps: Steps[T], context: Context | None = None) -> None:
        self._steps = steps
        self._context = context or Context()
        self.pause: Pause | None = None
        self.result: T | None = None
        self.error: BaseException | None = None
        self.has_ended = False

    def advance(self, error: OSError | None = None) -> None:
        """Runs the write to its next pause, or to its end."""
        self.pause = None
        try:
            if error is None:
                self.pause = self._context.run(next, self._steps)
            else:
                # A copy for each write, because a raised error gets a traceback.
                own = OSError(error.errno, error.strerror)
                self.pause = self._context.run(self._steps.throw, own)
        except StopIteration as end:
            self.result, self.has_ended = end.value, True
        except BaseException as raised:  # noqa: BLE001  (raised to the caller)
            self.error, self.has_ended = raised, True

    def fail(self, error: BaseException) -> None:
        """Ends it with an error, unless it has ended."""
        if not self.has_ended:
            self.pause, self.error, self.has_ended = None, error, True

    def outcome(self) -> T:
        """Returns the result, or raises the error, of a write that has ended."""
        if self.error is not None:
            raise self.error
        return cast("T", self.result)

    def finish(self) -> None:
        """Runs it alone to its end, from its beginning or from a contended pause."""
        self.advance()
        while self.pause is not None:
            self.advance(_wait(self.pause))


def finish_all(writes: Iterable[RunningWrite[T]]) -> None:
    """Runs writes to their ends, one after the other."""
    for write in writes:
        write.finish()


def complete(steps: Steps[T]) -> T:
    """Runs a write alone in the current context, and returns its result."""
    write = RunningWrite(steps, copy_context())
    write.finish()
    return write.outcome()


def run_together(writes: Iterable[RunningWrite[T]], submit: Submit) -> None:
    """Runs writes to their ends in this thread, and waits for the pauses of all of them together,
    with the help of the threads behind `submit`. Those that were contended then run again, because
    one of the others may have had their lock. A write that still has a pause after that must run
    alone.
    """
    if contended := _run_until_contended(writes, submit):
        _run_until_contended(contended, submit)


def _run_until_contended(
    writes: Iterable[RunningWrite[T]], submit: Submit
) -> Sequence[RunningWrite[T]]:
    contended: list[RunningWrite[T]] = []
    running = list(writes)
    for write in running:
        write.advance()
    while running:
        contended += [write for write in running if write.pause is CONTENDED]
        running = [write for write in running if write.pause not in (None, CONTENDED)]
        outcomes = _wait_for_all([write.pause for write in running if write.pause], submit)
        for write in running:
            if write.pause:
                write.advance(outcomes[write.pause])
    return contended


def _wait_for_all(pauses: Sequence[Pause], submit: Submit) -> dict[Pause, OSError | None]:
    distinct = list(dict.fromkeys(pauses))
    if len(distinct) > 1:
        for pause in distinct:
            pause.begin()
    outcomes: dict[Pause, OSError | None] = {}
    remaining = iter(distinct)

    def wait_for_remaining() -> None:
        for pause in remaining:  # each thread takes the next one
            outcomes[pause] = _wait(pause)

    helpers = (len(distinct) - 1) // _PAUSES_PER_THREAD
    _run_in_threads(wait_for_remaining, helpers, submit)
    return outcomes


def _run_in_threads(call: Callable[[], None], helpers: int, submit: Submit) -> None:
    """Runs a call in this thread, and at the same time in up to `helpers` others."""
    helper_calls = [submit(call) for _ in range(helpers)]
    try:
        call()
    finally:
        # Even after an error: otherwise, writes would close the files that helpers still sync.
        started = [helper for helper in helper_calls if not helper.cancel()]
        wait(started)
    for helper in started:
        helper.result()


def _wait(pause: Pause) -> OSError | None:
    try:
        pause.wait()
    except OSError as error:
        return error
    return None
