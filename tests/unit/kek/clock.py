"""Clocks in place of the module `time`, whose functions threads of other tests call too."""


class Clock:
    """Stands still."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class AdvancingClock(Clock):
    """A clock that only sleeping advances."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.now += seconds
