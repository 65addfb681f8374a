"""Runs several processes that serve as one daemon: starts, restarts and drains them together.

Each is a `kekd_server.worker`, a new process and not a fork, because gRPC doesn't survive a fork.
The supervisor holds the addresses, reads the settings, sends them to the workers, and signals the
workers to drain. It doesn't import gRPC. A worker ends as soon as its standard input closes,
so no worker outlives its supervisor.
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

from kekd_server.config.errors import SettingsError
from kekd_server.config.metrics import load_metrics_tls
from kekd_server.config.settings import Settings
from kekd_server.listeners.listener import acquire
from kekd_server.observability import stray_output
from kekd_server.observability.metrics_server import MultiprocessMetrics, multiprocess_metrics
from kekd_server.observability.probes import Probes
from kekd_server.process import heartbeat, systemd
from kekd_server.process.reloader import Reloader
from kekd_server.process.signals import on_hangup, stop_signal

T = TypeVar("T")

_MIN_RESTART_DELAY: Final = 0.1
_MAX_RESTART_DELAY: Final = 30.0
_CLOSE_TIMEOUT: Final = 2.0
"""Seconds that a worker may take beyond the grace, to close its stores."""

_log = logging.getLogger(__name__)


async def run(
    settings: Settings, config_file: Path | None, *, on_serving: Callable[[], None]
) -> None:
    """Serves until SIGTERM or SIGINT, then drains all workers. A second signal ends them
    immediately.

    Calls `on_serving` when clients can connect. Raises `SettingsError` and `ListenError`, also
    for a problem that prevents the first start of a worker.
    """
    signalled, probes, reloader = stop_signal(), Probes(), Reloader()
    metrics_tls = load_metrics_tls(settings.metrics_listener)
    if metrics_tls:
        reloader.add(metrics_tls.certificates)
    beating = asyncio.create_task(heartbeat.run(probes.beat))
    with (
        acquire(settings.listeners),
        multiprocess_metrics(
            settings.metrics_listener,
            probes,
            metrics_tls,
            workers=settings.workers,
            stores=[str(location) for location, _ in settings.stores],
        ) as metrics,
    ):
        workers = [
            _Worker(number, settings, config_file, metrics)
            for number in range(1, settings.workers + 1)
        ]
        problems = await _run_workers(workers, signalled, on_serving, probes, reloader)
    beating.cancel()
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    _log.info("stopped")


async def _run_workers(
    workers: Sequence["_Worker"],
    signalled: asyncio.Event,
    on_serving: Callable[[], None],
    probes: Probes,
    reloader: Reloader,
) -> list[str] | None:
    """Runs the workers until the signal. Returns the problems that prevent their first start."""
    hang_up = [worker.hang_up for worker in workers]
    on_hangup(*hang_up)
    async with asyncio.TaskGroup() as group:
        background_tasks = [
            group.create_task(reloader.run()),
            *(group.create_task(worker.run()) for worker in workers),
        ]
        problems = await _wait_unless_signalled(signalled, _started(workers))
        if problems == []:
            _log.info("serving with %d workers", len(workers))
            on_serving()
            probes.report_serving()
            systemd.ready()
            on_hangup(*hang_up, reloader.request)
            await signalled.wait()
            probes.report_draining()
            systemd.stopping()
        for task in background_tasks:
            task.cancel()
    return problems


async def _started(workers: Sequence["_Worker"]) -> list[str]:
    """Waits until each worker serves or fails to start. Returns the problems."""
    return [problem for worker in workers for problem in await worker.started]


async def _wait_unless_signalled(
    signalled: asyncio.Event, awaited: Coroutine[Any, Any, T]
) -> T | None:
    """Returns the result, or None if the signal comes first."""
    tasks = asyncio.create_task(awaited), asyncio.create_task(signalled.wait())
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    return None if signalled.is_set() else tasks[0].result()


class _Worker:
    """Runs one process at a time. Its number stays the same when it is restarted."""

    def __init__(
        self,
        number: int,
        settings: Settings,
        config_file: Path | None,
        metrics: MultiprocessMetrics | None,
    ) -> None:
        self._number = number
        self._settings = settings
        self._config_file = config_file
        self._metrics = metrics
        self._serving: Process | None = None
        self.started: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        """The problems that prevent the first start; empty once the worker serves."""

    async def run(self) -> None:
        """Starts the process, and restarts it whenever it ends, with growing delays. Returns only
        if the first start fails. Cancel it to drain the process.
        """
        delay = _MIN_RESTART_DELAY
        while True:
            started_at = time.monotonic()
            outcome = await self._run_once()
            if self.started.result():
                return
            if time.monotonic() - started_at > _MAX_RESTART_DELAY:
                delay = _MIN_RESTART_DELAY
            _log.error("worker %d %s: restarting it in %g s", self._number, outcome, delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _MAX_RESTART_DELAY)

    def hang_up(self) -> None:
        """Forwards SIGHUP to a worker that serves. Before that, SIGHUP would end the process, and
        there is nothing to reload.
        """
        if self._serving:
            with suppress(ProcessLookupError):
                self._serving.send_signal(signal.SIGHUP)

    async def _run_once(self) -> str:
        """Runs one process from its start to its end. Returns how it ended."""
        try:
            async with self._process() as process:
                problems = await self._configure(process)
                if not problems:
                    self._report_serving()
                    self._serving = process
                    return f"ended with {await process.wait()}"
        except OSError as error:  # no memory or no descriptors for a process
            problems = [f"worker {self._number} cannot be started: {error.strerror}"]
        if not self.started.done():
            self.started.set_result(problems)
        return f"doesn't serve: {'; '.join(problems)}"

    def _report_serving(self) -> None:
        if self.started.done():
            _log.info("worker %d serves again", self._number)
        else:
            self.started.set_result([])

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[Process]:
        """Drains the process at the end, if it still runs."""
        process = await asyncio.create_subprocess_exec(
            # -P: never import modules from the working directory.
            *(sys.executable, "-P", "-m", "kekd_server.worker", str(self._number)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=stray_output.destination(),
            env=systemd.environment_without_notify_socket()
            | (self._metrics.environment if self._metrics else {}),
        )
        try:
            yield process
        finally:
            self._serving = None
            await self._drain(process)
            if self._metrics:
                self._metrics.mark_dead(self._number)

    async def _drain(self, process: Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            grace = self._settings.shutdown_grace + _CLOSE_TIMEOUT
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            _log.error("worker %d doesn't end: killing it", self._number)
            process.kill()
            await process.wait()

    async def _configure(self, process: Process) -> list[str]:
        """Sends the settings to the process. Returns the problems that prevent it from serving."""
        stdin = cast("asyncio.StreamWriter", process.stdin)
        stdout = cast("asyncio.StreamReader", process.stdout)
        settings = self._settings.model_dump(mode="json")
        if self.started.done():
            # The keystore existed before. If it is missing now, its volume may be unmounted.
            settings["create_stores"] = False
        message = {
            "settings": settings,
            "config_file": self._config_file and str(self._config_file),
        }
        stdin.write(json.dumps(message).encode() + b"\n")
        if answer := await stdout.readline():
            problems: list[str] = json.loads(answer)
            return problems
        return [f"worker {self._number} ended with {await process.wait()} before it served"]
