"""Rotating all the indexes there are."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict, Unpack

from kekd._models import KMSBlob, Push, Pushed, StorageConfig
from kekd.errors import EnvelopeError, EnvelopeNotFoundError, EtagMismatchError
from kekd.kek.blocking import require_blocking
from kekd.kek.errors import KekError
from kekd.kek.registry import Registry, Rotation

if TYPE_CHECKING:
    from kekd._client import Client


DEFAULT_JOBS: Final = 8


class RotateOptions(TypedDict, total=False):
    """The arguments of `Registry.rotate` that are the same for every index."""

    dry_run: bool
    keep_version: bool
    from_store: str
    from_slot: str | None
    older_than: float | None


@dataclass(frozen=True, slots=True)
class Failure:
    """An index that couldn't be rotated, and keeps the envelope it had."""

    index_name: str
    error: KekError | EnvelopeError


class _PendingWrite(NamedTuple):
    """A rotation that is still to be stored."""

    rotation: Rotation
    if_etag: str


def rotate_all(  # noqa: PLR0913
    registry: Registry,
    slot: str | None = None,
    *,
    client: "Client",
    config_location: StorageConfig | None = None,
    prefix: str = "",
    jobs: int = DEFAULT_JOBS,
    force: bool = False,
    **how: Unpack[RotateOptions],
) -> Generator[Rotation | Failure, None, None]:
    """Rotates every index with the prefix that isn't yet as the slot would make it, `jobs` at once.

    With `force` also those that are, as after KMS gave the key new material: an envelope doesn't
    tell. How is as for `Registry.rotate`. The outcomes come as they are known, in no order.

    It keeps no state: begun again after it was stopped, it leaves what is done and does the rest;
    with `force` it does all once more. An index that is deleted meanwhile has no outcome.

    Raises `kekd.EnvelopeError` if the indexes can't be listed.
    """
    require_blocking(client)

    def rotate(index_name: str, envelope: KMSBlob | None, **how: Unpack[RotateOptions]) -> Rotation:
        return registry.rotate(
            index_name,
            slot,
            client=client,
            config_location=config_location,
            only_drifted=not force,
            envelope=envelope,
            **how,
        )

    def store(pushes: "Iterable[Push]") -> "Iterator[Pushed]":
        return client.push_many_index_kms(config_location, pushes)

    rotating = _Rotating(rotate, store, jobs, how)
    # After Ctrl-C those under way aren't waited for: they may have to wait long for their turns.
    is_hurried = False
    try:
        for index_name, found in client.scan_index_kms(config_location, prefix):
            if isinstance(found, EnvelopeError):
                yield Failure(index_name, found)
                continue
            rotating.begin(index_name, found)
            # Twice as many, so that none waits for work and few names are held.
            while rotating.under_way >= 2 * jobs:
                yield from rotating.finished()
        while rotating.under_way:
            yield from rotating.finished()
    except KeyboardInterrupt:
        is_hurried = True
        raise
    finally:
        rotating.stop(wait=not is_hurried)


class _Rotating:
    """Threads do everything but store. Who asks what is finished stores all that is ready, in one
    call, while the threads go on: a call for each would cost more than all else that kekd does.
    """

    def __init__(
        self,
        rotate: Callable[..., Rotation],
        store: "Callable[[Iterable[Push]], Iterator[Pushed]]",
        jobs: int,
        how: RotateOptions,
    ) -> None:
        self.under_way = 0
        self._rotate = rotate
        self._store = store
        self._how = how
        self._threads = ThreadPoolExecutor(jobs)
        self._done: SimpleQueue[Future[_PendingWrite | Rotation | Failure | None]] = SimpleQueue()

    def begin(self, index_name: str, envelope: KMSBlob | None = None) -> None:
        """Without an envelope, it is read anew, and stored by itself."""
        future = self._threads.submit(self._rotated, index_name, envelope)
        future.add_done_callback(self._done.put)
        self.under_way += 1

    def finished(self) -> Iterator[Rotation | Failure]:
        """Waits for at least one. Some have no outcome, or begin again."""
        done = [self._done.get().result()]
        while not self._done.empty():
            done.append(self._done.get().result())
        self.under_way -= len(done)
        ready = {it.rotation.index_name: it for it in done if isinstance(it, _PendingWrite)}
        yield from self._stored(ready)
        yield from (it for it in done if it and not isinstance(it, _PendingWrite))

    def stop(self, *, wait: bool) -> None:
        self._threads.shutdown(wait=wait, cancel_futures=True)

    def _rotated(
        self, index_name: str, envelope: KMSBlob | None
    ) -> _PendingWrite | Rotation | Failure | None:
        try:
            if envelope is None or self._how.get("dry_run"):
                return self._rotate(index_name, envelope, **self._how)
            rotation = self._rotate(index_name, envelope, **self._how | {"dry_run": True})
        except EnvelopeNotFoundError:
            return None
        except (KekError, EnvelopeError) as error:
            return Failure(index_name, error)
        return (
            _PendingWrite(rotation, envelope.etag)
            if rotation.outcome == "would rotate"
            else rotation
        )

    def _stored(self, ready: dict[str, _PendingWrite]) -> Iterator[Rotation | Failure]:
        pushes = [(name, it.rotation.envelope, it.if_etag) for name, it in ready.items()]
        try:
            for name, result in self._store(pushes):
                envelope = ready.pop(name).rotation.envelope
                if isinstance(result, EtagMismatchError):
                    self.begin(name)
                elif isinstance(result, EnvelopeError):
                    yield Failure(name, result)
                else:
                    envelope.etag = result
                    yield Rotation(name, "rotated", envelope)
        except EnvelopeError as error:  # of the whole call
            yield from (Failure(name, error) for name in ready)
