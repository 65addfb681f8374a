"""Places that are shared fairly among identities."""


class FairShare:
    """Limits each identity to `times_free` times the number of free places, so that none takes them
    all. With 3: three quarters alone, three sevenths each of two.
    """

    def __init__(self, places: int, *, times_free: int) -> None:
        self.places = places
        self._times_free = times_free
        self._taken: dict[str, int] = {}
        self._free = places

    @property
    def is_full(self) -> bool:
        return self._free <= 0

    def take(self, identity: str, count: int = 1) -> bool:
        """Whether the identity may have one more. Then it has as many as it asks for: what is too
        much at once makes it wait afterwards.
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
