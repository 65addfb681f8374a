"""Storing what a backup has, and nothing over what it shouldn't."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from kekd._cli.json_format import EnvelopeJSON
from kekd._models import KMSBlob, Push, StorageConfig
from kekd.errors import (
    CorruptEnvelopeError,
    DeadlineExceededError,
    EnvelopeError,
    EnvelopeExistsError,
    EnvelopeNotFoundError,
    UnavailableError,
)

if TYPE_CHECKING:
    from kekd._client import Client

_AT_ONCE: Final = 256
_JOBS: Final = 16
"""A strict create is a call of its own, and on S3 most of it is waiting."""

Outcome: TypeAlias = Literal["created", "unchanged", "overwritten", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Restored:
    index_name: str
    outcome: Outcome
    reason: str = ""
    """Why it was refused, or failed."""


def restore(
    client: "Client",
    location: StorageConfig | None,
    documents: Iterable[EnvelopeJSON],
    *,
    overwrite: bool,
    dry_run: bool,
) -> Generator[Restored, None, None]:
    """What comes of each, in no order. It keeps no state: begun again, it does the rest.

    An index that has none is given its envelope by a strict create, and one that has another, only
    to `overwrite` it, by a push over the very one that was read. `dry_run` does everything but
    store. Raises `kekd.EnvelopeError` when the daemon is lost.
    """
    restoring = _Restoring(client, location, overwrite=overwrite, dry_run=dry_run)
    try:
        left = iter(documents)
        while chunk := list(islice(left, _AT_ONCE)):
            yield from restoring.done({it.index_name: it.blob for it in chunk})
    finally:
        restoring.stop()


class _Restoring:
    def __init__(
        self, client: "Client", location: StorageConfig | None, *, overwrite: bool, dry_run: bool
    ) -> None:
        self._client = client
        self._location = location
        self._overwrite = overwrite
        self._dry_run = dry_run
        self._threads = ThreadPoolExecutor(_JOBS)

    def done(self, blobs: dict[str, KMSBlob]) -> Iterator[Restored]:
        missing: list[str] = []
        pushes: list[Push] = []
        for name, found in self._client.get_many_index_kms(self._location, blobs):
            if isinstance(found, EnvelopeNotFoundError):
                missing.append(name)
            elif found == blobs[name]:
                yield Restored(name, "unchanged")
            elif isinstance(found, EnvelopeError) and not isinstance(found, CorruptEnvelopeError):
                yield Restored(name, "failed", str(found))
            elif not self._overwrite:
                yield Restored(name, "refused", "it has another envelope: --overwrite replaces it")
            else:
                etag = found.etag if isinstance(found, KMSBlob) else None
                pushes.append((name, blobs[name], etag))
        if self._dry_run:
            yield from (Restored(name, "created") for name in missing)
            yield from (Restored(name, "overwritten") for name, _, _ in pushes)
            return
        yield from self._threads.map(self._created, missing, [blobs[it] for it in missing])
        yield from self._pushed(pushes)

    def stop(self) -> None:
        """Waits for those under way alone."""
        self._threads.shutdown(cancel_futures=True)

    def _created(self, name: str, blob: KMSBlob) -> Restored:
        try:
            self._client.create_index_kms(self._location, name, blob)
        except EnvelopeExistsError:
            return Restored(name, "refused", "somebody else created it meanwhile")
        except EnvelopeError as error:
            if _is_lost(error):
                raise
            return Restored(name, "failed", str(error))
        return Restored(name, "created")

    def _pushed(self, pushes: "Sequence[Push]") -> Iterator[Restored]:
        for name, result in self._client.push_many_index_kms(self._location, pushes):
            if isinstance(result, EnvelopeError):
                yield Restored(name, "failed", str(result))
            else:
                yield Restored(name, "overwritten")


def _is_lost(error: EnvelopeError) -> bool:
    """Whether it isn't about one envelope: a daemon that answers gives a reason."""
    return isinstance(error, (UnavailableError, DeadlineExceededError)) and not error.reason
