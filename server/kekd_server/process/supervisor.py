"""Several processes that serve as one daemon: started, kept up and drained together.

Each is a `kekd_server.worker`, started and not forked, as gRPC outlives no fork. The supervisor
holds the addresses, gives each worker the settings that it has itself read, and tells them when to
drain. It speaks no gRPC, and has none in memory. A worker ends at once when its standard input
does, so that none outlives a supervisor, however that ended.
"""

import asyncio
import json
import logging
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from kekd_server.config.settings import Settings, SettingsError
from kekd_server.listeners.listener import acquire
from kekd_server.observability import stray_output
from kekd_server.observability.metrics_server import MultiprocessMetrics, shared
from kekd_server.process import systemd
from kekd_server.process.signals import on_hangup, stop_signal

T = TypeVar("T")

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 30.0
_OVERTIME_SECONDS: Final = 2.0
"""What a worker may take beyond the grace, to close its stores."""

_log = logging.getLogger(__name__)


async def run(settings: Settings, policy_file: Path | None, *, serving: Callable[[], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains every worker; a second signal ends all at once.

    Calls `serving` when callers can connect. Raises `SettingsError` and `ListenError`, also for
    what keeps a worker from its first start.
    """
    signalled = stop_signal()
    with acquire(settings.listeners), shared(settings.metrics_listener) as metrics:
        workers = [
            _Worker(number, settings, policy_file, metrics)
            for number in range(1, settings.workers + 1)
        ]
        hang_up = [it.hang_up for it in workers]
        on_hangup(*hang_up)
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(worker.keep_up()) for worker in workers]
            problems = await _unless(signalled, _started(workers))
            if problems == []:
                _log.info("serving with %d workers", settings.workers)
                serving()
                systemd.ready()
                on_hangup(systemd.reloading, *hang_up, systemd.ready)
                await signalled.wait()
                systemd.stopping()
            for keeper in keepers:
                keeper.cancel()
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    _log.info("stopped")


async def _started(workers: Sequence["_Worker"]) -> list[str]:
    """When all serve, or can't; what keeps them from it."""
    return [problem for worker in workers for problem in await worker.started]


async def _unless(signalled: asyncio.Event, awaited: Coroutine[Any, Any, T]) -> T | None:
    """None if the signal comes first."""
    tasks = asyncio.create_task(awaited), asyncio.create_task(signalled.wait())
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    return None if signalled.is_set() else tasks[0].result()


class _Worker:
    """One process at a time, with a number that stays."""

    def __init__(
        self,
        number: int,
        settings: Settings,
        policy_file: Path | None,
        metrics: MultiprocessMetrics | None,
    ) -> None:
        self._number = number
        self._settings = settings
        self._policy_file = policy_file
        self._metrics = metrics
        self._serving: Process | None = None
        self.started: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        """What keeps it from its first start: nothing, once it serves."""

    async def keep_up(self) -> None:
        """Starts it, and again whenever it ends, less and less often if it keeps ending. Returns
        only if it doesn't start the first time. Cancelling it drains the process.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            since = time.monotonic()
            outcome = await self._live()
            if self.started.result():
                return
            if time.monotonic() - since > _LONGEST_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            _log.error("worker %d %s: starting it anew in %g s", self._number, outcome, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def hang_up(self) -> None:
        """Hands SIGHUP on. One that doesn't serve yet might end of it, and reads all anew."""
        if self._serving:
            with suppress(ProcessLookupError):
                self._serving.send_signal(signal.SIGHUP)

    async def _live(self) -> str:
        """From its start to its end; how that came."""
        try:
            async with self._process() as process:
                problems = await self._answer(process)
                if not problems:
                    self._serves()
                    self._serving = process
                    return f"ended with {await process.wait()}"
        except OSError as error:  # no memory or no descriptors for a process
            problems = [f"worker {self._number} can't be started: {error.strerror}"]
        if not self.started.done():
            self.started.set_result(problems)
        return f"doesn't serve: {'; '.join(problems)}"

    def _serves(self) -> None:
        if self.started.done():
            _log.info("worker %d serves again", self._number)
        else:
            self.started.set_result([])

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[Process]:
        """Drained at the end, if it still runs."""
        process = await asyncio.create_subprocess_exec(
            # -P, as the modules of the working directory are none of ours.
            *(sys.executable, "-P", "-m", "kekd_server.worker", str(self._number)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=stray_output.destination(),
            env=systemd.unnoticed() | (self._metrics.environment if self._metrics else {}),
        )
        try:
            yield process
        finally:
            self._serving = None
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                grace = self._settings.shutdown_grace + _OVERTIME_SECONDS
                await asyncio.wait_for(process.wait(), grace)
            except TimeoutError:
                _log.error("worker %d doesn't end: killing it", self._number)
                process.kill()
                await process.wait()
            if self._metrics:
                self._metrics.forget(self._number)

    async def _answer(self, process: Process) -> list[str]:
        """Gives it the settings, and returns what keeps it from serving."""
        stdin = cast("asyncio.StreamWriter", process.stdin)
        stdout = cast("asyncio.StreamReader", process.stdout)
        settings = self._settings.model_dump(mode="json")
        if self.started.done():
            # There was a keystore, which may be on a volume that isn't mounted any more.
            settings["create_stores"] = False
        given = {
            "settings": settings,
            "policy_file": self._policy_file and str(self._policy_file),
        }
        stdin.write(json.dumps(given).encode() + b"\n")
        if answer := await stdout.readline():
            problems: list[str] = json.loads(answer)
            return problems
        return [f"worker {self._number} ended with {await process.wait()} before it served"]
