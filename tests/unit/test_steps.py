"""Pauses of writes that run together, for which several threads wait."""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from kekd_server.storage.writes.steps import RunningWrite, Steps, run_together
from tests.fixtures.disk import no_help
from tests.patience import PATIENCE, eventually

WRITES = 6
"""Enough for one helper."""


class Pauses:
    """The pauses of writes whose group has one helper. The group waits for none before the helper
    waits for one, and the helper's wait hangs until the test goes on.
    """

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.waited = 0
        self.error: Exception | None = None
        """Raised by the first wait of the helper."""
        self.group_error: Exception | None = None
        """Raised by the waits of the group's own thread."""
        self._helper_waits = threading.Event()

    def begin(self) -> None:
        pass

    def wait(self) -> None:
        if threading.current_thread().name.startswith("helper"):
            self._helper_waits.set()
            assert self.go_on.wait(PATIENCE)
            error, self.error = self.error, None
        else:
            assert self._helper_waits.wait(PATIENCE)
            error = self.group_error
        self.waited += 1
        if error:
            raise error


class OnePause:
    """One of `Pauses`, which equals no other."""

    def __init__(self, pauses: Pauses) -> None:
        self.begin = pauses.begin
        self.wait = pauses.wait


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def writes(pauses: Pauses) -> Sequence[RunningWrite[bool]]:
    return [RunningWrite(pausing(pauses)) for _ in range(WRITES)]


def pausing(pauses: Pauses) -> Steps[bool]:
    """Returns whether the pauses of all writes have ended."""
    yield OnePause(pauses)
    return pauses.waited == WRITES


@pytest.fixture
def running(writes: Sequence[RunningWrite[bool]], pauses: Pauses) -> Iterator["Future[None]"]:
    """The group, which runs in a thread of its own."""
    with (
        ThreadPoolExecutor(thread_name_prefix="helper") as helpers,
        ThreadPoolExecutor(thread_name_prefix="group") as groups,
    ):
        yield groups.submit(run_together, writes, helpers.submit)
        pauses.go_on.set()


def test_no_write_continues_before_the_helper_has_waited(
    running: "Future[None]", writes: Sequence[RunningWrite[bool]], pauses: Pauses
) -> None:
    eventually(lambda: pauses.waited == WRITES - 1)
    assert not any(write.has_ended for write in writes)
    pauses.go_on.set()
    running.result(PATIENCE)
    assert all(write.outcome() for write in writes)


def test_error_of_the_helpers_wait_fails_its_write_alone(
    running: "Future[None]", writes: Sequence[RunningWrite[bool]], pauses: Pauses
) -> None:
    pauses.error = OSError(errno.EIO, os.strerror(errno.EIO))
    pauses.go_on.set()
    running.result(PATIENCE)
    (failed,) = [write for write in writes if write.error]
    assert isinstance(failed.error, OSError)
    assert all(write.outcome() for write in writes if write is not failed)


def test_unexpected_error_of_the_helper_ends_the_group(
    running: "Future[None]", pauses: Pauses
) -> None:
    pauses.error = error = ValueError("unexpected")
    pauses.go_on.set()
    assert running.exception(PATIENCE) is error


def test_unexpected_error_ends_the_group_after_the_helpers_wait(
    pauses: Pauses, writes: Sequence[RunningWrite[bool]]
) -> None:
    pauses.group_error = ValueError("unexpected")
    ends = []

    def submit(wait: Callable[[], None]) -> "Future[None]":
        def help_to_wait() -> None:
            # Not in a callback of the future, which runs after the group may have ended.
            try:
                wait()
            finally:
                ends.append("helper")

        return helpers.submit(help_to_wait)

    with (
        ThreadPoolExecutor(thread_name_prefix="helper") as helpers,
        ThreadPoolExecutor(thread_name_prefix="group") as groups,
    ):
        running = groups.submit(run_together, writes, submit)
        running.add_done_callback(lambda _: ends.append("group"))
        eventually(lambda: pauses.waited)
        pauses.go_on.set()
        assert running.exception(PATIENCE) is pauses.group_error
    assert ends == ["helper", "group"]


def test_group_without_help_waits_alone(
    writes: Sequence[RunningWrite[bool]], pauses: Pauses
) -> None:
    calls = []

    def submit(call: Callable[[], None]) -> "Future[None]":
        calls.append(no_help(call))
        return calls[-1]

    pauses._helper_waits.set()
    run_together(writes, submit)
    assert all(write.outcome() for write in writes)
    assert [call.cancelled() for call in calls] == [True]
