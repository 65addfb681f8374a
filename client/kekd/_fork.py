"""What mustn't go on across a fork."""

import os
import weakref
from functools import cache
from typing import Protocol


class Forgetting(Protocol):
    def forget(self) -> None:
        """Lets go of what a child would share with its parent."""


class Stopping(Protocol):
    def stop(self) -> None:
        """Ends what can't be forked in the midst of, and waits for its end."""


can_await = True
"""Whether this process may call gRPC from an event loop: not if it was forked while another did."""

_owners: "weakref.WeakSet[Forgetting]" = weakref.WeakSet()
_runners: "weakref.WeakSet[Stopping]" = weakref.WeakSet()


def forget_after_fork(owner: Forgetting) -> None:
    """Makes an object forget, in every child that is forked while it lives."""
    _register_forgetting()
    _owners.add(owner)


def stop_before_fork(runner: Stopping) -> None:
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
def _register_stopping() -> None:
    os.register_at_fork(before=_stop)


def _stop() -> None:
    for runner in list(_runners):
        runner.stop()


def _forget() -> None:
    for owner in list(_owners):
        owner.forget()
