"""The part of the daemon's limits that one call uses, until all work for it has ended."""

from collections.abc import Callable

from kekd_server.model.fair_share import FairShare


class Lease:
    """Counts one call and its batch entries against the limits, until every holder has released it.

    The call holds it, and so does a write that continues after its caller has disconnected.
    """

    __slots__ = ("_entries", "_holders", "_identity", "_share", "_take_entries")

    def __init__(
        self, identity: str, share: FairShare, take_entries: Callable[[str, int], FairShare]
    ) -> None:
        """`share` has already counted the call. `take_entries` counts entries of a batch, and
        returns the share to give them back to.
        """
        self._identity = identity
        self._share = share
        self._take_entries = take_entries
        self._entries: list[tuple[FairShare, int]] = []
        self._holders = 1

    def add_entries(self, count: int) -> None:
        """Raises `TooManyCallsError` or `ShareTakenError`."""
        share = self._take_entries(self._identity, count)
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
