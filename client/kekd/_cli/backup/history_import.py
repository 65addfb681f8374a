"""Imports the versions of a backup, below those that the indexes have."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from kekd._cli.errors import is_lost
from kekd._cli.output.terminal import say
from kekd._models import EnvelopeVersion, StorageConfig
from kekd.errors import EnvelopeError
from kekd_common.reasons import Reason

if TYPE_CHECKING:
    from kekd._client import Client

_CHUNK_SIZE: Final = 256
_THREADS: Final = 16
_REPORTED_ONCE: Final = (Reason.ACCESS_DENIED, Reason.HISTORY_OFF)
"""The reasons that most indexes have in common."""
_HOW_TO_ALLOW: Final = (
    "kekctl: to import versions, name the method 'import-history' in a rule of the daemon's policy"
    " ('*' does not include it), and run this import again"
)

History = tuple[str, Sequence[EnvelopeVersion]]
"""An index name, and its versions, newest first."""


class _Result(NamedTuple):
    versions: int
    added: int
    error: EnvelopeError | None


class HistoryImport:
    """Counts the versions that it imports, and reports each index that fails."""

    def __init__(self, client: "Client", location: StorageConfig | None) -> None:
        self._client = client
        self._location = location
        self._reported: set[str] = set()
        self._counts: Counter[str] = Counter()

    @property
    def has_failed(self) -> bool:
        return self._counts["not imported"] > 0

    @property
    def summary(self) -> str:
        outcomes = ("added", "unchanged", "not imported")
        return f"versions: {', '.join(f'{self._counts[name]} {name}' for name in outcomes)}"

    def run(self, histories: Iterable[History]) -> None:
        """Raises `kekd.EnvelopeError` if the daemon becomes unreachable."""
        remaining = iter(histories)
        with ThreadPoolExecutor(_THREADS) as threads:
            while chunk := list(islice(remaining, _CHUNK_SIZE)):
                for result in threads.map(self._import, chunk):
                    self._add(result)

    def skip(self, versions: int) -> None:
        """Counts the versions of an index whose envelope was not imported."""
        self._counts["not imported"] += versions

    def _import(self, history: History) -> _Result:
        name, versions = history
        try:
            added = self._client.import_versions_index_kms(self._location, name, versions)
        except EnvelopeError as error:
            if is_lost(error):
                raise
            return _Result(len(versions), 0, error)
        return _Result(len(versions), added, None)

    def _add(self, result: _Result) -> None:
        if result.error:
            self._counts["not imported"] += result.versions
            self._report(result.error)
        else:
            self._counts["added"] += result.added
            self._counts["unchanged"] += result.versions - result.added

    def _report(self, error: EnvelopeError) -> None:
        if error.reason in self._reported:
            return
        say(f"kekctl: failed: {error}", error=True)
        if error.reason in _REPORTED_ONCE:
            self._reported.add(error.reason)
        if error.reason == Reason.ACCESS_DENIED:
            say(_HOW_TO_ALLOW, error=True)
