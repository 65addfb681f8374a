"""How long a store keeps the versions of an envelope."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

_DAY_NS: Final = 86_400 * 10**9


class DatedVersion(Protocol):
    @property
    def time_ns(self) -> int: ...

    @property
    def is_deletion(self) -> bool: ...

    @property
    def etag(self) -> str: ...


V = TypeVar("V", bound=DatedVersion)


class Retention(NamedTuple):
    versions: int = 10
    """Versions of each index that are kept, the current one included."""
    days: float = 30.0
    """Days for which a version is kept after another one replaced it."""
    is_required: bool = True
    """Whether a write is refused if its version can't be kept."""

    @property
    def is_on(self) -> bool:
        return self.versions > 0 and self.days > 0

    def describe(self, where: str) -> str:
        if not self.is_on:
            return "off"
        return f"kept {where}, {self.versions} versions, {self.days:g} days"

    def find_expired(self, versions: Sequence[V], now_ns: int) -> Sequence[V]:
        """Returns the versions that need not be kept any longer. `versions` are all versions of one
        index, newest first.

        The current version never expires. The last version before a deletion expires by age alone,
        and so does the last one with the etag of the current version: if that was restored, the
        other one shows when the index had this state before.
        The deletion before the oldest version that is kept is kept too: it shows that the index had
        no envelope then.
        """
        earliest = self._earliest(now_ns)
        source = _find_source(versions)
        kept = count = 0
        for place, version in enumerate(versions):
            if version.is_deletion:
                continue
            count += 1
            replaced = versions[place - 1].time_ns if place else math.inf
            is_wanted = count == 1 or count <= self.versions or place == source
            if replaced >= earliest and is_wanted:
                kept = place + 1
        if kept < len(versions) and versions[kept].is_deletion:
            is_recent = versions[kept].time_ns >= earliest
            kept += 1 if kept or is_recent else 0
        return versions[kept:]

    def may_have_expired(self, version: DatedVersion, now_ns: int) -> bool:
        """Returns whether a version is old enough to have expired, whenever it was replaced."""
        return version.time_ns < self._earliest(now_ns)

    def _earliest(self, now_ns: int) -> float:
        return now_ns - self.days * _DAY_NS


def _find_source(versions: Sequence[V]) -> int | None:
    """Returns the place of the newest older version with the etag of the current one."""
    if not versions or versions[0].is_deletion:
        return None
    etag = versions[0].etag
    return next((place for place in range(1, len(versions)) if versions[place].etag == etag), None)


DEFAULT_RETENTION: Final = Retention()
