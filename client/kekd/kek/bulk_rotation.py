"""Rotates the KEKs of many indexes."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, Unpack

import kekd
from kekd._models import KMSBlob, StorageConfig
from kekd.errors import EnvelopeError, EnvelopeNotFoundError, EtagMismatchError
from kekd.kek.blocking import require_blocking
from kekd.kek.errors import KekError
from kekd.kek.job_pool import DEFAULT_JOBS, JobPool
from kekd.kek.registry import Registry
from kekd.kek.rotation import Failure, RotateOptions, Rotation


def rotate_all(  # noqa: PLR0913
    registry: Registry,
    slot: str | None = None,
    *,
    client: "kekd.Client",
    config_location: StorageConfig | None = None,
    prefix: str = "",
    jobs: int = DEFAULT_JOBS,
    force: bool = False,
    **options: Unpack[RotateOptions],
) -> Generator[Rotation | Failure, None, None]:
    """Rotates every index with the prefix whose envelope has drifted from the slot.

    Runs `jobs` rotations at once, and yields the outcomes as they complete, in any order. An index
    that is deleted in the meantime has no outcome. With `force`, also rotates envelopes that
    haven't drifted: use it after KMS rotated the key material, which an envelope doesn't show.
    `options` are those of `Registry.rotate`.

    Keeps no state. After an interruption, call it again: it rotates the rest, or with `force` all
    of them once more.

    Raises `kekd.EnvelopeError` if the indexes can't be listed.
    """
    require_blocking(client)
    with JobPool[_Result](jobs) as pool:
        rotation = _BulkRotation(
            registry=registry,
            slot=slot,
            client=client,
            config_location=config_location,
            pool=pool,
            force=force,
            options=options,
        )
        for index_name, found in client.scan_index_kms(config_location, prefix):
            if isinstance(found, EnvelopeError):
                yield Failure(index_name, found)
                continue
            rotation.start(index_name, found)
            while pool.is_full:
                yield from rotation.wait_any()
        while pool.in_flight:
            yield from rotation.wait_any()


class _PendingWrite(NamedTuple):
    """A new envelope that is still to be stored."""

    index_name: str
    envelope: KMSBlob
    if_etag: str


_Result: TypeAlias = _PendingWrite | Rotation | Failure | None


@dataclass(kw_only=True)
class _BulkRotation:
    """Wraps KEKs in threads. Stores the new envelopes in the caller's thread.

    `wait_any` pushes all envelopes that are ready in one call while the threads continue. A call
    for each would cost more than everything else in kekd.
    """

    registry: Registry
    slot: str | None
    client: "kekd.Client"
    config_location: StorageConfig | None
    pool: JobPool[_Result]
    force: bool
    options: RotateOptions

    def start(self, index_name: str, envelope: KMSBlob | None = None) -> None:
        """Starts a rotation. Without an envelope, the thread reads and stores it by itself."""
        self.pool.start(self._run, index_name, envelope)

    def wait_any(self) -> Iterator[Rotation | Failure]:
        """Waits for at least one rotation and yields its outcome, if any.

        A rotation has none if the index was deleted, or if it starts again after a conflict.
        """
        done = self.pool.wait_any()
        ready = {result.index_name: result for result in done if isinstance(result, _PendingWrite)}
        yield from self._store(ready)
        yield from (result for result in done if result and not isinstance(result, _PendingWrite))

    def _run(self, index_name: str, envelope: KMSBlob | None) -> _Result:
        try:
            if envelope is None:
                return self._rotate(index_name)
            return self._rewrap(index_name, envelope)
        except EnvelopeNotFoundError:
            return None
        except (KekError, EnvelopeError) as error:
            return Failure(index_name, error)

    def _rewrap(self, index_name: str, envelope: KMSBlob) -> _PendingWrite | Rotation:
        options = self.options
        is_due = self.registry.is_due(
            index_name,
            envelope,
            self.slot,
            from_slot=options.get("from_slot"),
            only_drifted=not self.force,
            older_than=options.get("older_than"),
        )
        if not is_due:
            return Rotation(index_name, "unchanged", envelope)
        new = self.registry.rewrap(
            index_name,
            envelope,
            self.slot,
            keep_version=options.get("keep_version", False),
            from_store=options.get("from_store", ""),
        )
        if options.get("dry_run"):
            return Rotation(index_name, "would rotate", new)
        return _PendingWrite(index_name, new, envelope.etag)

    def _rotate(self, index_name: str) -> Rotation:
        return self.registry.rotate(
            index_name,
            self.slot,
            client=self.client,
            config_location=self.config_location,
            only_drifted=not self.force,
            **self.options,
        )

    def _store(self, ready: dict[str, _PendingWrite]) -> Iterator[Rotation | Failure]:
        try:
            for name, result in self.client.push_many_index_kms(
                self.config_location, list(ready.values())
            ):
                envelope = ready.pop(name).envelope
                if isinstance(result, EtagMismatchError):
                    self.start(name)
                elif isinstance(result, EnvelopeError):
                    yield Failure(name, result)
                else:
                    envelope.etag = result
                    yield Rotation(name, "rotated", envelope)
        except EnvelopeError as error:  # the whole call failed
            yield from (Failure(name, error) for name in ready)
