"""Restores envelopes from a backup without replacing newer ones by accident."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from kekd._cli.errors import is_lost
from kekd._cli.output.json_format import EnvelopeJSON
from kekd._models import KMSBlob, Push, StorageConfig
from kekd.errors import (
    CorruptEnvelopeError,
    EnvelopeError,
    EnvelopeExistsError,
    EnvelopeNotFoundError,
)

if TYPE_CHECKING:
    from kekd._client import Client

_CHUNK_SIZE: Final = 1000
_THREADS: Final = 32
"""Strict creates have no batch call, and mostly wait. A daemon groups creates that arrive
together."""
_PUSHES_PER_CALL: Final = 100
"""So that several calls are in flight."""

Outcome: TypeAlias = Literal["created", "unchanged", "overwritten", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class RestoreResult:
    index_name: str
    outcome: Outcome
    reason: str = ""
    """Why the restore was refused or failed."""


def restore(
    client: "Client",
    location: StorageConfig | None,
    envelopes: Iterable[EnvelopeJSON],
    *,
    overwrite: bool,
    dry_run: bool,
) -> Generator[RestoreResult, None, None]:
    """Restores envelopes and yields the result of each, in no order.

    Missing envelopes are created with strict creates. Envelopes that differ are replaced only with
    `overwrite`, by a push with the etag that was read. `dry_run` does everything except storing. A
    restore keeps no state, so running it again restores the rest. Raises `kekd.EnvelopeError` if
    the daemon becomes unreachable.
    """
    restorer = _Restorer(client, location, overwrite=overwrite, dry_run=dry_run)
    try:
        remaining = iter(envelopes)
        while chunk := list(islice(remaining, _CHUNK_SIZE)):
            blobs = {envelope.index_name: envelope.blob for envelope in chunk}
            yield from restorer.restore(blobs)
    finally:
        restorer.stop()


class _Restorer:
    def __init__(
        self, client: "Client", location: StorageConfig | None, *, overwrite: bool, dry_run: bool
    ) -> None:
        self._client = client
        self._location = location
        self._overwrite = overwrite
        self._dry_run = dry_run
        self._threads = ThreadPoolExecutor(_THREADS)

    def restore(self, blobs: dict[str, KMSBlob]) -> Iterator[RestoreResult]:
        missing: list[str] = []
        pushes: list[Push] = []
        for name, found in self._client.get_many_index_kms(self._location, blobs):
            if isinstance(found, EnvelopeNotFoundError):
                missing.append(name)
            elif found == blobs[name]:
                yield RestoreResult(name, "unchanged")
            elif isinstance(found, EnvelopeError) and not isinstance(found, CorruptEnvelopeError):
                yield RestoreResult(name, "failed", str(found))
            elif not self._overwrite:
                yield RestoreResult(
                    name, "refused", "the stored envelope differs; give --overwrite to replace it"
                )
            else:
                etag = found.etag if isinstance(found, KMSBlob) else None
                pushes.append((name, blobs[name], etag))
        if self._dry_run:
            yield from (RestoreResult(name, "created") for name in missing)
            yield from (RestoreResult(name, "overwritten") for name, _, _ in pushes)
            return
        yield from self._threads.map(self._create, missing, [blobs[name] for name in missing])
        yield from self._push_all(pushes)

    def stop(self) -> None:
        """Waits for running creates, and cancels the others."""
        self._threads.shutdown(cancel_futures=True)

    def _create(self, name: str, blob: KMSBlob) -> RestoreResult:
        try:
            self._client.create_index_kms(self._location, name, blob)
        except EnvelopeExistsError:
            return RestoreResult(
                name, "refused", "another caller created an envelope at the same time; try again"
            )
        except EnvelopeError as error:
            if is_lost(error):
                raise
            return RestoreResult(name, "failed", str(error))
        return RestoreResult(name, "created")

    def _push_all(self, pushes: Sequence[Push]) -> Iterator[RestoreResult]:
        starts = range(0, len(pushes), _PUSHES_PER_CALL)
        parts = [pushes[start : start + _PUSHES_PER_CALL] for start in starts]
        yield from chain.from_iterable(self._threads.map(self._push, parts))

    def _push(self, pushes: Sequence[Push]) -> list[RestoreResult]:
        return [
            RestoreResult(name, "failed", str(result))
            if isinstance(result, EnvelopeError)
            else RestoreResult(name, "overwritten")
            for name, result in self._client.push_many_index_kms(self._location, pushes)
        ]
