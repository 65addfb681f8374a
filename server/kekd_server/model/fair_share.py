"""Slots that identities share fairly."""


class FairShare:
    """Limits each identity to `times_free` times the number of free slots, so that none takes them
    all. With 3, one identity gets three quarters alone, and two get three sevenths each.
    """

    def __init__(self, slots: int, *, times_free: int) -> None:
        self.slots = slots
        self._times_free = times_free
        self._taken: dict[str, int] = {}
        self._free = slots

    @property
    def is_full(self) -> bool:
        return self._free <= 0

    def take(self, identity: str, count: int = 1) -> bool:
        """Takes `count` slots; returns whether it did.

        One free slot within the share is enough, so a batch may exceed the share and then blocks
        the identity's next calls.
        """
        taken = self._taken.get(identity, 0)
        if taken >= self._times_free * self._free:
            return False
        self._taken[identity] = taken + count
        self._free -= count
        return True

    def give_back(self, identity: str, count: int = 1) -> None:
        self._free += count
        left = self._taken[identity] - count
        if left:
            self._taken[identity] = left
        else:
            del self._taken[identity]
