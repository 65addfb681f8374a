"""A capacity that identities share fairly."""


class FairShare:
    """Limits each identity to `factor` x the free capacity (the dynamic threshold of Choudhury and
    Hahne), so that none takes all. With 3, one identity gets three quarters alone, and two get
    three sevenths each.
    """

    def __init__(self, capacity: int, *, factor: int) -> None:
        self.capacity = capacity
        self._factor = factor
        self._taken: dict[str, int] = {}
        self._free = capacity

    @property
    def is_full(self) -> bool:
        return self._free <= 0

    def has_room(self, identity: str) -> bool:
        """Returns whether `take` would succeed."""
        return self._taken.get(identity, 0) < self._factor * self._free

    def take(self, identity: str, count: int = 1) -> bool:
        """Takes `count` units; returns whether it did.

        One free unit within the share is enough, so a batch may exceed the share and then blocks
        the identity's next calls.
        """
        if not self.has_room(identity):
            return False
        self._taken[identity] = self._taken.get(identity, 0) + count
        self._free -= count
        return True

    def give_back(self, identity: str, count: int = 1) -> None:
        self._free += count
        left = self._taken[identity] - count
        if left:
            self._taken[identity] = left
        else:
            del self._taken[identity]
