"""Adds `create_steps` and `put_steps` to a driver whose writes don't pause."""

from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.version import Origin
from kekd_server.storage.write_attempt import WriteAttempt
from kekd_server.storage.write_steps import Steps


class UnpausedWrites:
    """A base class for drivers that have `create` and `put`."""

    def create(
        self, name: IndexName, record: bytes, *, origin: Origin, attempt: WriteAttempt | None
    ) -> str:
        raise NotImplementedError

    def put(
        self,
        name: IndexName,
        record: bytes,
        *,
        if_etag: str | None,
        origin: Origin,
        attempt: WriteAttempt | None,
    ) -> WriteResult:
        raise NotImplementedError

    def create_steps(
        self, name: IndexName, record: bytes, *, origin: Origin, attempt: WriteAttempt | None
    ) -> Steps[str]:
        """See `Driver.create_steps`."""
        yield from ()  # makes it a generator
        return self.create(name, record, origin=origin, attempt=attempt)

    def put_steps(
        self,
        name: IndexName,
        record: bytes,
        *,
        if_etag: str | None,
        origin: Origin,
        attempt: WriteAttempt | None,
    ) -> Steps[WriteResult]:
        """See `Driver.put_steps`."""
        yield from ()  # makes it a generator
        return self.put(name, record, if_etag=if_etag, origin=origin, attempt=attempt)
