"""Runs many jobs in threads."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Generic, ParamSpec, Self, TypeVar

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

DEFAULT_JOBS: Final = 8


class JobPool(Generic[Result]):
    """Runs `jobs` jobs at once, and returns their results as they complete, in any order.

    At its end, waits for the jobs that run, and cancels the others. After Ctrl-C it doesn't wait: a
    job may wait long for a rate limit.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._threads = ThreadPoolExecutor(jobs)
        self._done: SimpleQueue[Future[Result]] = SimpleQueue()
        self.in_flight = 0

    @property
    def is_full(self) -> bool:
        """Whether to wait for a result before the next start.

        Twice the number of threads, so that no thread is idle and few jobs are held.
        """
        return self.in_flight >= 2 * self._jobs

    def start(
        self, job: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> None:
        self._threads.submit(job, *args, **kwargs).add_done_callback(self._done.put)
        self.in_flight += 1

    def wait_any(self) -> list[Result]:
        """Waits for at least one job, and returns the results of all that are done."""
        results = [self._done.get().result()]
        while not self._done.empty():
            results.append(self._done.get().result())
        self.in_flight -= len(results)
        return results

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        is_interrupted = isinstance(error, KeyboardInterrupt)
        self._threads.shutdown(wait=not is_interrupted, cancel_futures=True)
