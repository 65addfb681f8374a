"""Resets and stops objects that can't continue across a fork."""

import os
import time
import weakref
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final, TypeAlias

_SHUTDOWN_TIMEOUT: Final = 1.0
"""Maximum seconds for which gRPC's threads run after the last channel was closed. They usually end
within milliseconds."""

_NO_FORK_SUPPORT: Final = (
    "cannot call kekd: this process was forked while gRPC was in use and gRPC's fork support is"
    " off; set GRPC_ENABLE_FORK_SUPPORT=1, or import kekd before grpc, or close each client a"
    " second before the fork"
)
_OPEN_ASYNC_CLIENT: Final = (
    "cannot call kekd: this process was forked while an AsyncClient was open; close it before the"
    " fork, or start processes by spawn or forkserver"
)

refusal = ""
"""Why this process can't call gRPC: it was forked while gRPC's threads ran, which the child doesn't
have. Empty if it can."""

_connections: "weakref.WeakSet[object]" = weakref.WeakSet()
_last_close = float("-inf")
"""When the last connection was closed, by the monotonic clock."""

Handlers: TypeAlias = weakref.WeakKeyDictionary[object, Callable[[object], None]]
"""For each object, the function to call with it. A set of `WeakMethod` would need callbacks that
refer to the set. At exit, such a cycle is freed in any order, and the callbacks fail."""
_reset_handlers: Handlers = weakref.WeakKeyDictionary()
_stop_handlers: Handlers = weakref.WeakKeyDictionary()


def reset_after_fork(reset: Callable[[], None]) -> None:
    """Calls a method in every child that is forked while the method's object exists.

    It should drop the state that the child would share with its parent.
    """
    _register_reset()
    _add(_reset_handlers, reset)


def stop_before_fork(stop: Callable[[], None]) -> None:
    """Calls a method before each fork while the method's object exists.

    It should end background work that the fork would interrupt, and wait until that has ended.

    Call this after the first gRPC channel was made: handlers run in the reverse order of their
    registration, and once gRPC's own has run, a call can't be ended any more.
    """
    _register_stop()
    _add(_stop_handlers, stop)


def use_grpc(connection: object, supports_forks: Callable[[], bool]) -> None:
    """Records that gRPC's threads run while this connection exists.

    `supports_forks` returns whether gRPC's fork support is on.
    """
    _register_check(supports_forks)
    _connections.add(connection)
    weakref.finalize(connection, _record_close).atexit = False


def refuse_calls_after_async() -> None:
    """Refuses all calls in the child of a process with an open `AsyncClient`.

    There, one of gRPC's threads is always in a call. So gRPC doesn't prepare for the fork, and the
    child could hang.
    """
    _refuse_calls(_OPEN_ASYNC_CLIENT)


@cache
def _register_reset() -> None:
    _register_at_fork(after_in_child=partial(_call, _reset_handlers))


@cache
def _register_stop() -> None:
    _register_at_fork(before=partial(_call, _stop_handlers))


@cache
def _register_check(supports_forks: Callable[[], bool]) -> None:
    _register_at_fork(after_in_child=partial(_check_support, supports_forks))


def _register_at_fork(**handlers: Callable[[], None]) -> None:
    if hasattr(os, "register_at_fork"):  # Windows has no forks
        os.register_at_fork(**handlers)


def _add(handlers: Handlers, method: Any) -> None:
    handlers[method.__self__] = method.__func__


def _call(handlers: Handlers) -> None:
    for owner, handler in list(handlers.items()):
        handler(owner)


def _record_close() -> None:
    global _last_close  # noqa: PLW0603  (gRPC's threads belong to the process, too)
    _last_close = time.monotonic()


def _check_support(supports_forks: Callable[[], bool]) -> None:
    has_threads = bool(_connections) or time.monotonic() < _last_close + _SHUTDOWN_TIMEOUT
    if has_threads and not supports_forks():
        _refuse_calls(_NO_FORK_SUPPORT)


def _refuse_calls(message: str) -> None:
    global refusal  # noqa: PLW0603
    refusal = message
