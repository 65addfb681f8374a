"""Checks that the KEKs of many indexes can be unwrapped."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import kekd
from kekd._models import KMSBlob, StorageConfig
from kekd.errors import EnvelopeError, EnvelopeNotFoundError
from kekd.kek.blocking import require_blocking
from kekd.kek.errors import KekError
from kekd.kek.job_pool import DEFAULT_JOBS
from kekd.kek.provider import scrub
from kekd.kek.registry import Registry
from kekd.kek.rotation import Failure

UnwrapOutcome: TypeAlias = Literal["unwraps", "unchecked"]

_QUEUED_PER_THREAD: Final = 2


@dataclass(frozen=True, slots=True)
class UnwrapCheck:
    """An index whose KEK can be unwrapped, or is unchecked because only callers have it."""

    index_name: str
    outcome: UnwrapOutcome


def check_unwrap_all(
    registry: Registry,
    *,
    client: "kekd.Client",
    config_location: StorageConfig | None = None,
    prefix: str = "",
    jobs: int = DEFAULT_JOBS,
) -> Generator[UnwrapCheck | Failure, None, None]:
    """Unwraps the KEK of every index with the prefix, `jobs` at once, and overwrites it.

    Yields the outcomes in the order of the index names. An index that is deleted in the meantime
    has none.

    Raises `kekd.EnvelopeError` if the indexes can't be listed.
    """
    require_blocking(client)

    def check(index_name: str, envelope: KMSBlob) -> UnwrapCheck | Failure | None:
        try:
            return _check(registry, index_name, envelope)
        except KekError as error:
            failure = Failure(index_name, error)
        # Another caller may have replaced the envelope and then deleted the key of this one.
        try:
            current = client.get_index_kms(config_location, index_name)
            return failure if current == envelope else _check(registry, index_name, current)
        except EnvelopeNotFoundError:
            return None
        except (KekError, EnvelopeError) as error:
            return Failure(index_name, error)

    pending: deque[Future[UnwrapCheck | Failure | None]] = deque()
    threads = ThreadPoolExecutor(jobs)
    try:
        for index_name, found in client.scan_index_kms(config_location, prefix):
            if isinstance(found, EnvelopeError):
                pending.append(_done(Failure(index_name, found)))
            else:
                pending.append(threads.submit(check, index_name, found))
            if len(pending) >= _QUEUED_PER_THREAD * jobs:
                yield from _outcomes(pending.popleft())
        while pending:
            yield from _outcomes(pending.popleft())
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _check(registry: Registry, index_name: str, envelope: KMSBlob) -> UnwrapCheck:
    if envelope.provider == "none":
        return UnwrapCheck(index_name, "unchecked")
    scrub(registry.unwrap(index_name, envelope))
    return UnwrapCheck(index_name, "unwraps")


def _done(failure: Failure) -> Future[UnwrapCheck | Failure | None]:
    future: Future[UnwrapCheck | Failure | None] = Future()
    future.set_result(failure)
    return future


def _outcomes(future: Future[UnwrapCheck | Failure | None]) -> list[UnwrapCheck | Failure]:
    outcome = future.result()
    return [outcome] if outcome else []
