"""What one call takes of the daemon's limits, for as long as anything is done for it."""

from collections.abc import Callable
from typing import Final

from kekd_server.model.fair_share import FairShare


class Lease:
    """Has a place, and one more for each entry of a batch, until all who hold it have released it.

    Its call holds it, and so does a write that goes on after its caller has gone away.
    """

    __slots__ = ("_check_entries", "_entries", "_holders", "_identity", "_share")

    def __init__(
        self, identity: str, share: FairShare, check_entries: Callable[[str, int], FairShare]
    ) -> None:
        """`share` has the call's place already. `check_entries` takes those of entries, and returns
        where they are to be given back.
        """
        self._identity = identity
        self._share = share
        self._check_entries = check_entries
        self._entries: list[tuple[FairShare, int]] = []
        self._holders = 1

    def add_entries(self, count: int) -> None:
        """Raises `TooManyCallsError` if these are too many."""
        share = self._check_entries(self._identity, count)
        self._entries.append((share, count))

    def hold(self) -> None:
        self._holders += 1

    def release(self) -> None:
        self._holders -= 1
        if self._holders:
            return
        self._share.give_back(self._identity)
        for share, count in self._entries:
            share.give_back(self._identity, count)


class NoLease:
    """Of a call that no limits apply to."""

    def add_entries(self, count: int) -> None:
        """There are never too many."""

    def hold(self) -> None:
        """It takes nothing."""

    def release(self) -> None:
        """It has nothing."""


NO_LEASE: Final = NoLease()
