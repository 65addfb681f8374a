"""What mustn't go on across a fork."""

import os
import time
import weakref
from collections.abc import Callable
from functools import cache, partial
from typing import Final, Protocol

_SHUTDOWN_SECONDS: Final = 1.0
"""How long gRPC's threads may go on after the last channel was closed. It takes milliseconds."""


class ForkResettable(Protocol):
    def forget(self) -> None:
        """Lets go of what a child would share with its parent."""


class ForkStoppable(Protocol):
    def stop(self) -> None:
        """Ends what can't be forked in the midst of, and waits for its end."""


_NO_SUPPORT: Final = (
    "this process was forked while gRPC was in use, and gRPC's support for forks is off: set"
    " GRPC_ENABLE_FORK_SUPPORT=1, or import kekd before grpc, or close each client a"
    " second before the fork"
)
_OPEN_ASYNC_CLIENT: Final = (
    "this process was forked while an AsyncClient was open: close it before the fork, or start"
    " processes by spawn or forkserver"
)

refusal = ""
"""Why this process may not call gRPC: it was forked while gRPC's threads ran, which a child doesn't
have. Empty if it may."""

_connections: "weakref.WeakSet[object]" = weakref.WeakSet()
_last_end = float("-inf")
"""When the last connection ended, by the monotonic clock."""

_owners: "weakref.WeakSet[ForkResettable]" = weakref.WeakSet()
_runners: "weakref.WeakSet[ForkStoppable]" = weakref.WeakSet()


def forget_after_fork(owner: ForkResettable) -> None:
    """Makes an object forget, in every child that is forked while it lives."""
    _register_forgetting()
    _owners.add(owner)


def use_grpc(connection: object, supports_forks: Callable[[], bool]) -> None:
    """Notes that gRPC's threads run while this connection lives. `supports_forks` is gRPC's."""
    _register_check(supports_forks)
    _connections.add(connection)
    weakref.finalize(connection, _note_end).atexit = False


def stop_before_fork(runner: ForkStoppable) -> None:
    """Stops an object before each fork while it lives.

    To be called after the first gRPC channel was made: what prepares for forks last is the first to
    do it, and when gRPC does, it is too late to end a call.
    """
    _register_stopping()
    _runners.add(runner)


@cache
def _register_forgetting() -> None:
    os.register_at_fork(after_in_child=_forget)


@cache
def _register_check(supports_forks: Callable[[], bool]) -> None:
    os.register_at_fork(after_in_child=partial(_check_support, supports_forks))


@cache
def _register_stopping() -> None:
    os.register_at_fork(before=_stop)


def _stop() -> None:
    for runner in list(_runners):
        runner.stop()


def _forget() -> None:
    for owner in list(_owners):
        owner.forget()


def _note_end() -> None:
    global _last_end  # noqa: PLW0603  (of the process, as gRPC's threads are)
    _last_end = time.monotonic()


def _check_support(supports_forks: Callable[[], bool]) -> None:
    has_threads = bool(_connections) or time.monotonic() < _last_end + _SHUTDOWN_SECONDS
    if has_threads and not supports_forks():
        _refuse_calls(_NO_SUPPORT)


def refuse_calls_after_async() -> None:
    """In the child of a process with an open `AsyncClient`: one of gRPC's threads is always in a
    call then, so gRPC prepares nothing for the fork, and the child would hang at times.
    """
    _refuse_calls(_OPEN_ASYNC_CLIENT)


def _refuse_calls(why: str) -> None:
    global refusal  # noqa: PLW0603
    refusal = why
